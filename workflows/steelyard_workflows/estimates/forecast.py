"""What a workflow's run will take: its work, past runs of its recipe or a probe, the rate book.

Nothing is started and nothing is written: a ledger that does not exist yet is read as an empty
one in a temporary folder, an unreachable registry as one without runs.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from steelyard.bootstrap import Platform
from steelyard.bootstrap.registry import check_registry
from steelyard.cli.output import note
from steelyard.domain.errors import Unavailable
from steelyard.domain.measures import Measures
from steelyard.domain.model_version import FlopsProfile, ModelVersion
from steelyard.domain.quantities import KWH_MJ, NANO
from steelyard.services.estimates import Estimate, Plan
from steelyard.settings import Settings
from steelyard_workflows.data import Dataset
from steelyard_workflows.estimates.probe import probe
from steelyard_workflows.estimates.wording import comparison, lines
from steelyard_workflows.loading import Loaded
from steelyard_workflows.training.limits import Spent, foreseen
from steelyard_workflows.training.sampling import Plan as Dealt
from steelyard_workflows.workflow import Workflow

TAG = "steelyard.estimate"
"""The run's tag with the estimate that was made before it, as JSON in ledger units."""
FACTOR_TAG = "steelyard.estimate_factor"
"""Estimate / measured, by measure."""

SAME = ("train.batch_size", "train.precision", "train.compile", "scaling.workers",
        "scaling.cpus_per_worker", "scaling.gpus_per_worker", "scaling.strategy")  # fmt: skip
"""What the pace of a run depends on; past runs that agree in all of it are preferred."""

MOST_RUNS = 500
"""The newest so many runs are looked through for some of the same recipe."""

FACTORS = ("flop", "wall_us", "device_us", "cost_nano", "energy_mj", "carbon_ug", "embodied_ug")


@dataclass(frozen=True, slots=True)
class Work:
    """What a run computes when it runs all its epochs, and at least with early stopping.

    ``items`` are rows trained on, ``validated`` rows of validation, over all epochs. FLOPs are
    the profile's: a training step for each of the first, a forward pass for each of the second;
    None where unknown.
    """

    epochs: int
    least_epochs: int
    items: int
    validated: int
    flop: int | None
    flop_least: int | None
    flop_basis: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """A workflow's work, what it is estimated to take, and what its limits will do to it."""

    work: Work
    estimate: Estimate
    limits: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """As JSON: ledger units, unknown is None."""
        found = asdict(self.estimate)
        found["budgets"] = [
            {**one.pop("line"), "run_amount": one["amount"], "state_after": one["after"],
             "reason_after": one["reason"]}
            for one in found["budgets"]
        ]  # fmt: skip
        return {"work": asdict(self.work), "limits": list(self.limits), **found}

    def expected(self) -> dict[str, int | None]:
        """The typical figure of every measure that a finished run can be compared by."""
        wall = self.estimate.wall_us
        values = asdict(self.estimate.typical)
        return {**values, "flop": self.work.flop, "wall_us": wall.typical if wall else None}


def work(workflow: Workflow, dataset: Dataset, profile: FlopsProfile) -> Work:
    """The rows and FLOPs of a run, as its sampler deals them."""
    train = workflow.train
    plan = Dealt(train.seed, len(dataset.train), train.batch_size, workflow.scaling.workers,
                 train.accumulate)  # fmt: skip
    steps = train.epochs * plan.steps
    full, rest = divmod(steps if train.steps is None else min(steps, train.steps), plan.steps)
    rows = plan.share * plan.world
    items = full * rows + min(rest * train.accumulate * plan.size, plan.share) * plan.world
    epochs = full + bool(rest)
    least = min(epochs, workflow.early_stopping.patience + 1)
    least_items = min(items, rows * least)
    validation = len(dataset.validation)

    def flop(trained: int, passes: int) -> int | None:
        if profile.train_step is None or profile.forward is None:
            return None
        return trained * profile.train_step + passes * validation * profile.forward

    return Work(epochs, least, items, epochs * validation, flop(items, epochs),
                flop(least_items, least), f"{profile.method} ({profile.found})")  # fmt: skip


def announced(made: Loaded, workflow: Workflow, settings: Settings) -> dict[str, str]:
    """Say what the run will take; the estimate as a tag of the run."""
    found = forecast(made, workflow, settings)
    for line in lines(found):
        note(line)
    return {TAG: json.dumps({"basis": found.estimate.time_basis, **found.expected()})}


def forecast(made: Loaded, workflow: Workflow, settings: Settings) -> Forecast:
    """Estimate a run; with past runs of its recipe in the ledger no probe is made."""
    planned = work(workflow, made.dataset, made.profile)
    scaling = workflow.scaling

    def plan(measured: Any = None) -> Plan:
        return Plan(workflow.model, workflow.team, scaling.cpus, settings.device_model,
                    settings.price_sku, settings.region or None, planned.items, planned.flop,
                    measured)  # fmt: skip

    same, others = past_runs(workflow, settings)
    with ledger(settings) as platform:
        found = platform.estimates.of(plan(), same)
        if found.wall_us is None:
            measured = probe(made, workflow)
            found = platform.estimates.of(plan(measured), [], others)
    ends = (_spent(found, end) for end in ("low", "high"))
    return Forecast(planned, found, tuple(foreseen(workflow.limits, *ends)))


def _spent(estimate: Estimate, end: Literal["low", "high"]) -> Spent:
    """One end of an estimate in the units of limits."""
    taken: Measures = getattr(estimate, end)
    wall = getattr(estimate.wall_us, end) if estimate.wall_us else None
    return Spent(
        None if wall is None else wall / 1e6,
        None if taken.cost_nano is None else taken.cost_nano / NANO,
        None if taken.energy_mj is None else taken.energy_mj / KWH_MJ,
    )


def past_runs(workflow: Workflow, settings: Settings) -> tuple[list[str], list[str]]:
    """Runs of the same recipe, those like this one if there are any; and runs of other recipes.

    The newest first.
    """
    if not settings.mlflow_uri and not (settings.home / "mlflow.db").exists():
        return [], []
    try:
        check_registry(settings)
    except Unavailable as error:
        note(f"Past runs are not known: {error.message}")
        return [], []
    from mlflow.tracking import MlflowClient

    client = MlflowClient(settings.registry_uri, settings.registry_uri)
    experiments = client.search_experiments(filter_string="name LIKE 'steelyard/%'")
    if not experiments:
        return [], []
    runs = client.search_runs(
        [one.experiment_id for one in experiments],
        filter_string="tags.`steelyard.kind` = 'train'",
        order_by=["attributes.start_time DESC"],
        max_results=MOST_RUNS,
    )
    wanted, ids = workflow.parameters(), [str(run.info.run_id) for run in runs]
    given = dict(zip(ids, (run.data.params for run in runs), strict=True))
    same = [one for one in ids if given[one].get("recipe") == workflow.recipe]
    like = [one for one in same if all(given[one].get(k) == wanted.get(k) for k in SAME)]
    return like or same, [one for one in ids if one not in same]


def compare(version: ModelVersion, settings: Settings) -> None:
    """Say how far the estimate was from what the ledger booked, and keep it as a tag."""
    from mlflow.tracking import MlflowClient

    try:
        check_registry(settings)
        client = MlflowClient(settings.registry_uri, settings.registry_uri)
        told = client.get_run(version.run_id).data.tags.get(TAG)
        if told is None:
            return
        found = compared(version.model, version.run_id, json.loads(told), settings)
        client.set_tag(version.run_id, FACTOR_TAG, json.dumps(found["factor"]))
    except Unavailable as error:
        note(f"The estimate was not compared: {error.message}")
        return
    for line in comparison(found):
        note(line)


def compared(
    model: str, run_id: str, told: dict[str, Any], settings: Settings
) -> dict[str, Any]:  # fmt: skip
    """Estimate, measurement and their factor (estimate / measured) for every known measure."""
    with ledger(settings) as platform:
        booked = platform.runs.cost(model, run_id)
        wall = platform.estimates.measured(run_id, settings.device_model)
    measured = {**(asdict(booked.cost) if booked else {}), "wall_us": wall}
    factor = {
        name: round(told[name] / measured[name], 4)
        for name in FACTORS
        if told.get(name) is not None and measured.get(name)
    }
    return {"estimate": told, "measured": measured, "factor": factor}


@contextmanager
def ledger(settings: Settings) -> Iterator[Platform]:
    """The ledger; where there is none yet, an empty one that is thrown away."""
    if settings.database_url.get_secret_value() or (settings.home / "ledger.db").exists():
        platform = Platform(settings)
        try:
            yield platform
        finally:
            platform.engine.dispose()
        return
    with tempfile.TemporaryDirectory(prefix="steelyard-") as folder:
        platform = Platform(settings.model_copy(update={"home": Path(folder)}))
        try:
            yield platform
        finally:
            platform.engine.dispose()
