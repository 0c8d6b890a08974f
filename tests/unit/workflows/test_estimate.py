"""The cost before the run: the dry run, what it rests on, and what it leaves alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.tracking import MlflowClient

from steelyard.bootstrap import Platform
from steelyard.cli.app import run
from steelyard.domain.facts import Fact
from steelyard.domain.metering import Resource, SupplyWindow, UsageWindow
from steelyard.services.outlooks import Scope
from steelyard.settings import Settings
from steelyard_workflows.estimates.forecast import Forecast, compared, forecast, past_runs, work
from steelyard_workflows.estimates.wording import lines
from steelyard_workflows.loading import Loaded, loaded
from steelyard_workflows.workflow import Limits, Workflow
from steelyard_workflows.workflow_file import parse

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")

SECOND = 1_000_000
EXAMPLE = str(Path(__file__).parents[3] / "examples" / "digits.yaml")


@pytest.fixture(scope="module")
def made() -> Loaded:
    """The digits recipe as a run starts from it."""
    return loaded(parse("recipe: digits_cnn\n"))


@pytest.fixture
def workflow() -> Workflow:
    """Two workers, 12 epochs of 1,200 rows."""
    return parse("recipe: digits_cnn\n")


def remember(platform: Platform, workflow: Workflow, epoch_s: int, device: str) -> str:
    """A past run in registry and ledger: 10 s of start, then three epochs, then 2 s of export."""
    client = MlflowClient(platform.settings.registry_uri, platform.settings.registry_uri)
    found = client.get_experiment_by_name("steelyard/digits")
    experiment = found.experiment_id if found else client.create_experiment("steelyard/digits")
    run_id = str(client.create_run(experiment, tags={"steelyard.kind": "train"}).info.run_id)
    for name, value in workflow.parameters().items():
        client.log_param(run_id, name, value)
    flop = 1200 * 10**6
    now = platform.clock.now_us() - 3600 * SECOND
    group = f"train/{run_id}/1"
    driver = f"evaluate/{run_id}"
    facts: list[Fact] = [
        Resource(group, "train_worker", device, 2, 1, "vcpu-hour", now, "DEU"),
        Resource(driver, "train_worker", device, 1, 1, "vcpu-hour", now, "DEU"),
    ]
    spent = [(group, 2, 1, 10 + epoch_s, flop), (group, 2, 1, epoch_s, flop),
             (group, 2, 1, epoch_s, flop), (driver, 1, None, 2, 7)]  # fmt: skip
    left = now
    for number, (resource, devices, attempt, seconds, done) in enumerate(spent):
        right = left + seconds * SECOND
        facts += [
            SupplyWindow(run_id, "b", 2 * number, resource, left, right,
                         seconds * devices * SECOND, cpu_us=seconds * devices * SECOND // 2),
            UsageWindow(run_id, "b", 2 * number + 1, resource, left, right, "digits", None,
                        "training", "train", run_id, attempt, items=1200,
                        busy_ns=seconds * 10**9, flop=done),
        ]  # fmt: skip
        left = right
    platform.facts.ingest(facts, left)
    return run_id


def estimated(made: Loaded, workflow: Workflow, platform: Platform) -> Forecast:
    """The estimate over a platform's ledger."""
    return forecast(made, workflow, platform.settings)


def test_a_dry_run_prints_the_whole_workflow_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its output is a workflow file itself: the resolved values, and the estimate as comments."""
    home = tmp_path / "home"
    monkeypatch.setenv("STEELYARD_HOME", str(home))
    assert run(["train", EXAMPLE, "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert parse(shown.out) == parse(Path(EXAMPLE).read_text(encoding="utf-8"))
    assert yaml.safe_load(shown.out)["train"]["epochs"] == 12
    assert "# Estimate for 12 epoch(s), 14,400 rows; early stopping may end it after 4" in shown.out
    assert "a short probe on this machine" in shown.out and "cost: $" in shown.out
    assert "Nothing was started" in shown.err
    assert not home.exists()


def test_a_dry_run_answers_in_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ledger units; what is unknown is null, here the carbon of no region."""
    monkeypatch.setenv("STEELYARD_HOME", str(tmp_path / "home"))
    assert run(["train", EXAMPLE, "--dry-run", "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    estimate = document["estimate"]
    assert document["workflow"]["recipe"] == "digits_cnn"
    assert estimate["work"]["items"] == 14_400 and estimate["work"]["flop"] > 0
    assert estimate["wall_us"]["typical"] > 0 and estimate["typical"]["cost_nano"] > 0
    assert estimate["typical"]["carbon_ug"] is None and estimate["runs"] == 0
    assert estimate["energy_tier"] == "modelled_load" and estimate["cited"]["energy_mj"]


def test_work_is_the_profile_times_rows_times_epochs(made: Loaded, workflow: Workflow) -> None:
    """Training steps for 1,200 rows and forward passes for 237, in each of 12 epochs."""
    profile = made.profile
    assert profile.train_step is not None and profile.forward is not None
    epoch = 1200 * profile.train_step + 237 * profile.forward
    found = work(workflow, made.dataset, profile)
    assert (found.flop, found.flop_least) == (12 * epoch, 4 * epoch)


def test_a_limit_of_steps_is_a_limit_of_work(made: Loaded) -> None:
    """25 steps of two batches of 64 rows: 10 an epoch, so two epochs and half of a third."""
    text = "recipe: digits_cnn\ntrain: {steps: 25, accumulate: 2}\n"
    found = work(parse(text), made.dataset, made.profile)
    assert (found.items, found.epochs) == (2 * 1200 + 640, 3)


def test_a_limit_that_the_run_will_reach_is_said_before(
    made: Loaded, workflow: Workflow, empty: Platform
) -> None:
    """Past runs took one to four seconds: what that means for each limit."""
    for seconds in (1, 2, 4):
        remember(empty, workflow, seconds, "generic-vcpu")
    limits = Limits(time_s=0.5, cost_usd=100, energy_kwh=1)
    found = estimated(made, workflow.model_copy(update={"limits": limits}), empty)
    assert found.limits == (
        "limits.time_s, 0.5 s: ends this run early",
        "limits.cost_usd, 100 USD: leaves room for this run",
        "limits.energy_kwh, 1 kWh: leaves room for this run",
    )
    assert f"  {found.limits[0]}" in lines(found)


def test_past_runs_calibrate_the_estimate(
    made: Loaded, workflow: Workflow, empty: Platform
) -> None:
    """Three runs of the same recipe on the same device: the median, from least to greatest."""
    for seconds in (1, 2, 4):
        remember(empty, workflow, seconds, "generic-vcpu")
    found = estimated(made, workflow, empty)
    wall, flop = found.estimate.wall_us, found.work.flop
    assert wall is not None and flop is not None
    steps = {s: 12 * SECOND + flop * s * SECOND // (1200 * 10**6) for s in (1, 2, 4)}
    assert abs(wall.low - steps[1]) <= 1
    assert abs(wall.typical - steps[2]) <= 1
    assert abs(wall.high - steps[4]) <= 1
    assert found.estimate.runs == 3
    assert found.estimate.time_basis == "calibrated on 3 past run(s) of this recipe and device"


def test_runs_on_other_devices_say_nothing(
    made: Loaded, workflow: Workflow, empty: Platform
) -> None:
    """The probe is asked instead."""
    remember(empty, workflow, 1, "another-device")
    assert "probe" in estimated(made, workflow, empty).estimate.time_basis


def test_runs_like_this_one_are_preferred(workflow: Workflow, empty: Platform) -> None:
    """The same batch, precision and workers; with none of them, any run of the recipe."""
    wide = parse("recipe: digits_cnn\nscaling: {workers: 3}\n")
    other = remember(empty, wide, 1, "generic-vcpu")
    assert past_runs(workflow, empty.settings) == ([other], [])
    same = remember(empty, workflow, 1, "generic-vcpu")
    assert past_runs(workflow, empty.settings) == ([same], [])
    another = workflow.model_copy(update={"recipe": "own.recipes:mine"})
    assert past_runs(another, empty.settings) == ([], [same, other])


def test_a_probe_starts_and_ends_like_runs_of_other_recipes(
    made: Loaded, workflow: Workflow, empty: Platform
) -> None:
    """The first run of a recipe is estimated with 10 s of start and 2 s of export."""
    remember(empty, workflow.model_copy(update={"recipe": "own.recipes:mine"}), 1, "generic-vcpu")
    found = estimated(made, workflow, empty).estimate
    assert found.wall_us is not None and found.wall_us.typical > 12 * SECOND
    assert found.time_basis.endswith("evaluation as in 1 run(s) of other recipes")


def test_budgets_of_the_model_say_what_the_run_would_do(
    made: Loaded, workflow: Workflow, empty: Platform
) -> None:
    """A limit of a thousandth of a cent is exceeded, one of a hundred dollars is not touched."""
    remember(empty, workflow, 2, "generic-vcpu")
    empty.books.post()
    empty.budgets.set(Scope("model", "digits"), "cost_nano", "month", 10_000, 8_000, "ada")
    empty.budgets.set(Scope("model", "digits"), "device_us", "year", 10**15, 8_000, "ada")
    found = {one.line.measure: one for one in estimated(made, workflow, empty).estimate.budgets}
    assert found["cost_nano"].after == "exceeded"
    assert found["device_us"].after == "ok"
    assert found["cost_nano"].amount is not None


def test_an_estimate_is_compared_with_what_was_booked(workflow: Workflow, empty: Platform) -> None:
    """A factor of 2: twice the device time that the run took; unknown measures have none."""
    run_id = remember(empty, workflow, 2, "generic-vcpu")
    empty.books.post()
    told = {"device_us": 2 * 34 * SECOND, "wall_us": 18 * SECOND, "energy_mj": None}
    found = compared("digits", run_id, told, empty.settings)
    assert found["measured"]["device_us"] == 34 * SECOND
    assert found["factor"] == {"wall_us": 1.0, "device_us": 2.0}


def test_a_registry_that_is_away_leaves_the_probe(
    made: Loaded, workflow: Workflow, tmp_path: Path
) -> None:
    """The estimate says on what it rests instead of failing."""
    settings = Settings(home=tmp_path, mlflow_uri="http://127.0.0.1:9")
    assert "probe" in forecast(made, workflow, settings).estimate.time_basis
