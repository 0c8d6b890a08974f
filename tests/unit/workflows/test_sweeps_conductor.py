"""What a sweep does about trials that run: limits on the whole, Ctrl-C, processes that are gone."""

import json
import pickle
from dataclasses import asdict
from pathlib import Path

import pytest

from steelyard_workflows.sweeps.board import Standing
from steelyard_workflows.sweeps.conductor import Conductor
from steelyard_workflows.sweeps.plan import planned
from steelyard_workflows.training.cancel import cancelled
from steelyard_workflows.training.limits import Spent
from steelyard_workflows.training.spending import SPENT_FILE
from steelyard_workflows.workflow_file import parse

SWEEP = """
recipe: digits_cnn
limits: {cost_usd: 3, energy_kwh: 5}
sweep: {trials: 3, search: {train.batch_size: {choice: [32, 64, 128]}}}
"""


@pytest.fixture
def closed() -> list[Standing]:
    """The trials whose books somebody else has closed."""
    return []


@pytest.fixture
def conductor(tmp_path: Path, closed: list[Standing]) -> Conductor:
    """Of three trials, two run: ``a`` and ``b``; the third has not started."""
    workflow = parse(SWEEP)
    made = Conductor(workflow, planned(workflow), tmp_path, "sweep", closed.append)
    (tmp_path / "sweep").mkdir()
    for number, run_id in ((1, "a"), (2, "b")):
        (tmp_path / run_id).mkdir()
        made.start(number)
        made.hear(number, {"run_id": run_id})
    return made


def spend(folder: Path, run_id: str, **amounts: float) -> None:
    """What a trial's controller says that it has spent."""
    (folder / run_id / SPENT_FILE).write_text(json.dumps(asdict(Spent(**amounts))))


def states(conductor: Conductor) -> list[str]:
    """Of the trials, by number."""
    return [one.state for one in conductor.standings]


def test_a_limit_counts_for_all_trials_together(conductor: Conductor, tmp_path: Path) -> None:
    """Neither alone has reached it; both are asked to stop, and no other one starts."""
    spend(tmp_path, "a", cost_usd=1.5, energy_kwh=1.0)
    spend(tmp_path, "b", cost_usd=1.25)
    conductor.look()
    assert conductor.ending is None
    spend(tmp_path, "b", cost_usd=1.5)
    conductor.look()
    assert conductor.ending == "limits.cost_usd: 3 of 3 USD"
    for run_id in ("a", "b"):
        reason = (tmp_path / run_id / "stop").read_text()
        assert reason == "the sweep's limits.cost_usd: 3 of 3 USD"
    assert (tmp_path / "sweep" / "stop").exists()


def test_what_is_unknown_reaches_no_limit(conductor: Conductor, tmp_path: Path) -> None:
    """A trial that has not said anything yet costs nothing that is known."""
    spend(tmp_path, "a", time_s=5.0)
    conductor.look()
    assert conductor.ending is None
    assert (conductor.spent().cost_usd, conductor.spent().energy_kwh) == (None, None)


def test_ctrl_c_breaks_trials_off_that_run_and_that_are_about_to(
    conductor: Conductor, tmp_path: Path
) -> None:
    """A trial without a run yet is cancelled as soon as it has one."""
    conductor.start(3)
    conductor.interrupt()
    conductor.look()
    assert cancelled(tmp_path / "a")
    assert cancelled(tmp_path / "b")
    (tmp_path / "c").mkdir()
    conductor.hear(3, {"run_id": "c"})
    conductor.look()
    assert cancelled(tmp_path / "c")
    assert conductor.ending is not None


def test_the_first_reason_to_stop_a_trial_stays(conductor: Conductor, tmp_path: Path) -> None:
    """ASHA may give the same trial up at every rung after it."""
    conductor.end(1, "first")
    conductor.end(1, "second")
    assert (tmp_path / "a" / "stop").read_text() == "first"


def test_the_books_of_a_trial_that_is_gone_are_closed_once(
    conductor: Conductor, closed: list[Standing]
) -> None:
    """As failed where its process died, as cancelled where all were broken off."""
    conductor.lose(1, "its process failed: out of memory")
    conductor.interrupt()
    conductor.close_all()
    conductor.close_all()
    assert [(one.run_id, one.state) for one in closed] == [("a", "failed"), ("b", "cancelled")]
    assert states(conductor) == ["failed", "cancelled", "left out"]


def test_a_trial_that_has_ended_is_left_alone(conductor: Conductor, tmp_path: Path) -> None:
    """Neither stopped nor closed."""
    conductor.hear(1, {"state": "finished", "value": 0.5, "best_epoch": 2, "checkpoint": "/c"})
    conductor.interrupt()
    conductor.look()
    assert not cancelled(tmp_path / "a")
    assert conductor.standings[0].value == 0.5


def test_ray_tune_saves_nothing_of_ours(conductor: Conductor) -> None:
    """It writes what it is given to disk; settings hold secrets."""
    assert type(pickle.loads(pickle.dumps(conductor))) is object
