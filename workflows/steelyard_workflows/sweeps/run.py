"""A sweep from its first trial to the registered version of its best."""

from collections.abc import Sequence
from pathlib import Path

import ray
from mlflow.tracking import MlflowClient

from steelyard.cli.output import note, stderr, table
from steelyard.domain.errors import SteelyardError
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_workflows.booking import journal
from steelyard_workflows.booking.attempts import close_open
from steelyard_workflows.booking.metering import now_us
from steelyard_workflows.cluster import connected
from steelyard_workflows.loading import loaded
from steelyard_workflows.publish import publish
from steelyard_workflows.sweeps import board, forecast
from steelyard_workflows.sweeps.board import Standing
from steelyard_workflows.sweeps.conductor import Conductor
from steelyard_workflows.sweeps.prepare import Prepared, at_once, largest, prepared
from steelyard_workflows.sweeps.totals import show_total
from steelyard_workflows.sweeps.trial import SWEEP_TAG
from steelyard_workflows.sweeps.tuning import run_trials
from steelyard_workflows.tracking import run_report
from steelyard_workflows.tracking.late import end_late
from steelyard_workflows.tracking.run import reopened, tracked, wait_until_sent
from steelyard_workflows.tracking.run_page import log_metrics, set_tags
from steelyard_workflows.training import place
from steelyard_workflows.training.fit import Loop, charge_of
from steelyard_workflows.training.spending import rates_for
from steelyard_workflows.workflow import Workflow

BEST_TAG = "steelyard.best_run"


def sweep(
    workflow: Workflow, settings: Settings, loop: Loop, *, estimated: bool = False
) -> ModelVersion:  # fmt: skip
    """Run the trials of ``workflow.sweep`` and register the best. Progress goes to stderr.

    The sweep has a run of its own, with the trials' runs below it. ``estimated``: say before what
    all of it will take at most.

    Raises:
        InvalidInput: the draws make no usable trials.
        Refused: the cluster or the disk is too small, a limit cannot be counted, or the exported
            model differs from the trained one.
        Unavailable: the configured Ray cluster does not answer.
        SteelyardError: no trial ended with a checkpoint.
        KeyboardInterrupt: Ctrl-C; the trials are booked as cancelled, nothing is registered.
    """
    ready = prepared(workflow, settings)
    one = charge_of(ready.trials[0].workflow, settings, "", ready.made[1].dataset)
    rates_for(settings, one, workflow.limits)  # the devices' price is the same for all trials
    if estimated:
        for text in forecast.told(forecast.sweep_forecast(workflow, ready, settings)):
            note(text)
    tags = {"steelyard.kind": "sweep"}
    with tracked(settings, workflow, f"sweep-{workflow.recipe}", tags) as sweep_id:
        conductor = _conductor(workflow, ready, settings, sweep_id)
        try:
            _run(workflow, ready, settings, sweep_id, loop, conductor)
            winner = _winner(workflow, conductor.standings)
            version = _register(winner, settings, sweep_id)
            _say_best(workflow, settings, sweep_id, winner, version)
            return version
        finally:
            runs = [one.run_id for one in conductor.standings if one.run_id]
            show_total(settings, workflow.model, sweep_id, runs)


def sweep_of(settings: Settings, version: ModelVersion) -> str | None:
    """The run of the sweep that a version came out of; None when it is from a single run."""
    run = MlflowClient(settings.registry_uri).get_run(version.run_id)
    found: str | None = run.data.tags.get(SWEEP_TAG)
    return found


def _conductor(
    workflow: Workflow, ready: Prepared, settings: Settings, sweep_id: str
) -> Conductor:  # fmt: skip
    def close(one: Standing) -> None:
        """Book and say what the process of a trial can no longer."""
        if one.run_id is None:
            return
        dataset = ready.made[one.trial.number].dataset
        charge = charge_of(one.trial.workflow, settings, one.run_id, dataset)
        cancelled = one.state == "cancelled"
        path = settings.checkpoint_dir / one.run_id / journal.FILE
        close_open(settings, charge, path, "cancelled" if cancelled else "failed")
        end_late(settings, one.run_id, "KILLED" if cancelled else "FAILED")

    return Conductor(workflow, ready.trials, settings.checkpoint_dir, sweep_id, close)


def _run(
    workflow: Workflow, ready: Prepared, settings: Settings, sweep_id: str, loop: Loop,
    conductor: Conductor,
) -> None:  # fmt: skip
    """Run all trials; the table of them is shown however they end."""
    trials = ready.trials
    try:
        with connected(settings, largest(trials)):
            has = ray.cluster_resources()
            count, why = at_once(workflow, trials, int(has.get("CPU", 0)), int(has.get("GPU", 0)))
            note(f"Sweep {sweep_id}: {len(trials)} trials of {workflow.model}, {why}")
            run_trials(workflow, trials, settings, sweep_id, loop, conductor, count)
    except KeyboardInterrupt:
        conductor.interrupt()
        raise
    finally:
        conductor.close_all()
        rows = board.rows(conductor.standings)
        stderr.print(table(f"Sweep {sweep_id}", board.COLUMNS, rows))
    if conductor.cancelled:
        raise KeyboardInterrupt


def _winner(workflow: Workflow, standings: Sequence[Standing]) -> Standing:
    found = board.best(standings, workflow.early_stopping)
    if found is not None:
        return found
    reasons = [f"trial {one.trial.number}: {one.reason}" for one in standings if one.reason]
    raise SteelyardError(
        f"None of {len(standings)} trials ended with a checkpoint; {'; '.join(reasons[:3])}",
        "Their attempts are booked. Nothing was registered.",
    )


def _register(winner: Standing, settings: Settings, sweep_id: str) -> ModelVersion:
    """Publish the best trial's best checkpoint, as part of that trial's run."""
    assert winner.run_id is not None and winner.checkpoint is not None  # it is the best
    workflow, run_id = winner.trial.workflow, winner.run_id
    made = loaded(workflow)
    _, state = place.load(Path(winner.checkpoint))
    made.network.load_state_dict(state["network"])
    with reopened(settings, run_id):
        run_report.keep_weights(settings, run_id, made.network)
        wait_until_sent(settings, run_id)
        version = publish(workflow, made.profile, settings, run_id, made.network, made.dataset)
        run_report.link(settings, run_id, version)
    client = MlflowClient(settings.registry_uri)
    client.set_model_version_tag(version.model, str(version.version), SWEEP_TAG, sweep_id)
    return version


def _say_best(
    workflow: Workflow, settings: Settings, sweep_id: str, winner: Standing, version: ModelVersion
) -> None:
    metric, number = workflow.early_stopping.metric, winner.trial.number
    assert winner.value is not None and winner.run_id is not None  # it is the best
    note(f"  best: trial {number} ({winner.trial.words()}), {metric} {winner.value:.4f}")
    log_metrics(
        settings, sweep_id, {f"best/{metric}": winner.value, "best/trial": number}, 0, now_us()
    )
    set_tags(settings, sweep_id, {BEST_TAG: winner.run_id})
    run_report.link(settings, sweep_id, version)
