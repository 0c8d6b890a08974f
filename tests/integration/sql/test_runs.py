"""What one run cost, whoever carries it now."""

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from steelyard.adapters.sql.budgets import BudgetStore
from steelyard.adapters.sql.reports import ReportStore
from steelyard.adapters.sql.runs import RunStore
from steelyard.domain.metering import Outcome, Resource, RunAttempt, SupplyWindow, UsageWindow
from steelyard.domain.model_version import ModelVersion, Signature
from steelyard.services.run_account import RunAccounts, RunCost
from steelyard.services.statements import Statements

from .conftest import Bookkeeping

pytestmark = pytest.mark.integration

HOUR = 3_600_000_000


class Training(Bookkeeping):
    """A ledger of runs of one model."""

    def __init__(self, engine: Engine, spool: Path) -> None:
        super().__init__(engine, spool)
        reports = ReportStore(engine)
        self.runs = RunAccounts(RunStore(engine), reports)
        self.statements = Statements(
            reports, self.ledger, self.catalog, BudgetStore(engine), self.clock
        )

    def train(
        self, run_id: str, hour: int, outcome: Outcome = "ok", flop: int | None = 10**24,
        attempt: int = 1,
    ) -> None:  # fmt: skip
        """An attempt that has an hour of a GPU, half of it busy; posted."""
        name, start = f"train/{run_id}/{attempt}", hour * HOUR
        self.clock.at_us = start + 2 * HOUR
        self.post(
            Resource(name, "train_worker", "gpu", 1, 1, "gpu-hour", 0, "DEU"),
            SupplyWindow(name, "b", 1, name, start, start + HOUR, HOUR),
            UsageWindow(name, "b", 2, name, start, start + HOUR, "m", None, "training", "train",
                        run_id, attempt, busy_ns=1_800 * 10**9, flop=flop),
            RunAttempt(run_id, attempt, "m", outcome, start, start + HOUR),
        )  # fmt: skip

    def register(self, version: int, run_id: str) -> None:
        """The run becomes a version; its cost moves there."""
        self.catalog.record_version(
            ModelVersion("m", version, run_id, "source", "model.onnx", "d" * 64, 1, "full",
                         "trained", Signature((), ()), 0)
        )  # fmt: skip
        self.books.post()

    def cost(self, run_id: str) -> RunCost:
        """What it cost by now."""
        found = self.runs.cost("m", run_id)
        assert found is not None
        return found


@pytest.fixture
def books(engine: Engine, tmp_path: Path) -> Training:
    """Nothing was trained yet."""
    return Training(engine, tmp_path / "spool")


def test_a_run_costs_what_its_version_says(books: Training) -> None:
    """To the unit, idle time included, before and after the cost moved there."""
    books.train("r1", 10)
    before = books.cost("r1")
    books.register(1, "r1")
    (version,) = books.statements.model("m").versions
    assert before.cost == books.cost("r1").cost == version.training
    assert before.cost.cost_nano == 3_000_000_000
    assert before.cost.embodied_ug is None
    assert before.energy_by_tier_mj == version.energy_by_tier_mj


def test_a_version_carries_failures_that_its_run_did_not_cause(books: Training) -> None:
    """What failed before stays the failed run's own cost."""
    books.train("r1", 10, "failed")
    failed = books.cost("r1")
    books.train("r2", 20)
    books.register(1, "r2")
    version = next(v for v in books.statements.model("m").versions if v.version == 1)
    assert version.training.cost_nano == 6_000_000_000
    assert [books.cost(r).cost.cost_nano for r in ("r1", "r2")] == [3_000_000_000] * 2
    assert books.cost("r1").cost == failed.cost


def test_every_attempt_counts(books: Training) -> None:
    """FLOPs that a lost attempt did not report are said to be missing."""
    books.train("r1", 10, "failed", flop=None)
    books.train("r1", 12, attempt=2)
    found = books.cost("r1")
    assert (found.cost.device_us, found.cost.flop) == (2 * HOUR, 10**24)
    assert (found.flop_windows, found.windows) == (1, 2)


def test_the_same_total_has_the_same_moment(books: Training) -> None:
    """A later charge has a later one: it replaces the total."""
    books.train("r1", 10)
    first = books.cost("r1")
    books.clock.at_us += HOUR
    books.books.post()
    assert books.cost("r1") == first
    books.train("r1", 20, attempt=2)
    second = books.cost("r1")
    assert second.recorded_us > first.recorded_us
    assert second.cost.cost_nano == 2 * (first.cost.cost_nano or 0)


def test_a_reversal_is_taken_off(books: Training) -> None:
    """Money that a person took back was not spent; device time stays."""
    books.train("r1", 10)
    before = books.cost("r1").cost
    (batch,) = [b for b in books.ledger.batches("train/r1/1@10") if b.method_id == "valuation"]
    books.books.reverse(batch.batch_id, "wrong price", "ada")
    books.register(1, "r1")
    after = books.cost("r1").cost
    assert after == replace(before, cost_nano=0, carbon_ug=0)


def test_runs_that_were_charged_since_are_found(books: Training) -> None:
    """And a run that nothing was posted of has no total."""
    books.train("r1", 10)
    head = books.ledger.head()
    assert head is not None
    assert books.runs.charged_since(head.seq) == []
    books.train("r2", 20)
    assert books.runs.charged_since(head.seq) == [("m", "r2")]
    assert books.runs.charged_since(0) == [("m", "r1"), ("m", "r2")]
    assert books.runs.cost("m", "r3") is None
