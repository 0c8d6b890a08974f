"""The experiment tracker: one MLflow run per workflow, finished, failed or killed, never open.

Only the driver talks to MLflow: training workers have neither MLflow nor its credentials. What
the driver has to say goes through the run's outbox, so that training does not wait for MLflow.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import mlflow
import yaml
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from steelyard.bootstrap.registry import check_registry
from steelyard.cli.output import note
from steelyard.domain.errors import Refused, Unavailable
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_workflows.tracking import outbox, provenance
from steelyard_workflows.tracking.outbox import Item, Sender
from steelyard_workflows.tracking.run_page import (
    file_for,
    log_artifact,
    log_params,
    log_rows,
    outbox_of,
    set_tags,
)
from steelyard_workflows.tracking.sending import known, sender
from steelyard_workflows.tracking.system_metrics import Sampler
from steelyard_workflows.workflow import Workflow

Status = Literal["FINISHED", "FAILED", "KILLED"]
WORKFLOW_TAG = "steelyard.workflow"
"""The run's complete workflow as JSON: what makes a variant's data the parent's data."""
PATIENCE_S: Mapping[Status, float] = {"FINISHED": 1800, "FAILED": 60, "KILLED": 5}
"""How long an MLflow that is away is waited for at the end of a run, by how the run ended."""


@contextmanager
def tracked(
    settings: Settings, workflow: Workflow, name: str, tags: Mapping[str, str]
) -> Iterator[str]:
    """An active MLflow run; yields its id.

    It ends FINISHED, FAILED when the block raises, KILLED on Ctrl-C. MLflow may go away in the
    middle: what was logged waits on disk, and is waited for at the end.

    Raises:
        Unavailable: MLflow does not answer when the run starts.
    """
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    check_registry(settings)
    send_left(settings)
    run_id = _start(settings, workflow, name, tags)
    with _active(settings, run_id):
        _introduce(settings, workflow, run_id)
        yield run_id


@contextmanager
def reopened(settings: Settings, run_id: str) -> Iterator[None]:
    """A run that has ended, active again inside another one: for what comes of it later.

    Raises:
        Unavailable: MLflow does not answer.
    """
    check_registry(settings)
    mlflow.start_run(run_id=run_id, nested=True, log_system_metrics=False)
    with _active(settings, run_id):
        yield


@contextmanager
def _active(settings: Settings, run_id: str) -> Iterator[None]:
    """Send what the block says of an active run, and end the run as the block ends."""
    path = outbox_of(settings, run_id)
    status: Status = "FAILED"
    with outbox.claimed(path):
        sending = Sender(path, sender(settings, run_id))
        try:
            with Sampler(lambda rows: log_rows(settings, run_id, rows)):
                yield
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            _end(settings, run_id, status, sending)


def _start(settings: Settings, workflow: Workflow, name: str, tags: Mapping[str, str]) -> str:
    mlflow.set_tracking_uri(settings.registry_uri)
    mlflow.set_registry_uri(settings.registry_uri)
    run = mlflow.start_run(
        experiment_id=experiment_of(settings, workflow.model),
        run_name=name,
        tags={WORKFLOW_TAG: workflow.model_dump_json(), **tags},
        log_system_metrics=False,
    )
    return str(run.info.run_id)


def _introduce(settings: Settings, workflow: Workflow, run_id: str) -> None:
    """What is known before anything runs: parameters, environment, code, where the ledger is."""
    code = provenance.code(Path.cwd())
    log_params(settings, run_id, workflow.parameters() | provenance.environment() | code)
    tags = links(settings, workflow.model, run_id)
    if code["code.commit"] != provenance.UNKNOWN:
        tags["mlflow.source.git.commit"] = code["code.commit"]
    set_tags(settings, run_id, tags)
    file = file_for(settings, run_id, "workflow.yaml")
    values = workflow.model_dump(exclude_none=True)
    file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    log_artifact(settings, run_id, file)


def links(settings: Settings, model: str, run_id: str) -> dict[str, str]:
    """Tags that lead from a run's page to its figures in the ledger."""
    return {
        "steelyard.model": model,
        "steelyard.ledger_subject": f"run/{run_id}",
        "steelyard.api_url": settings.api_url,
        "steelyard.run_url": f"{settings.api_url}/models/{model}",
    }


def _end(settings: Settings, run_id: str, status: Status, sending: Sender) -> None:
    """Say how the run ended, and wait until MLflow has everything."""
    path = outbox_of(settings, run_id)
    outbox.put(path, Item("end", {"status": status, "at_ms": time.time_ns() // 1_000_000}))
    complete = False
    try:
        complete = sending.wait(PATIENCE_S[status])
    finally:
        sending.close()
        if complete:
            outbox.remove(path)
        else:
            note(f"MLflow has not got all of run {run_id}; the next `steelyard train` sends it.")
        _leave(status, patient=complete)


def _leave(status: Status, *, patient: bool) -> None:
    """Leave MLflow's active run; one that does not answer is not waited for again."""
    retries = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    before = os.environ.get(retries)
    if not patient:
        os.environ[retries] = "0"
    try:
        with suppress(MlflowException):
            mlflow.end_run(status)
    finally:
        if before is None:
            os.environ.pop(retries, None)
        else:
            os.environ[retries] = before


def wait_until_sent(settings: Settings, run_id: str) -> None:
    """Wait until MLflow answers and has everything of a run that is going on.

    Raises:
        Unavailable: it does not within ``PATIENCE_S``; what to do is said.
    """
    path, told = outbox_of(settings, run_id), False
    end = time.monotonic() + PATIENCE_S["FINISHED"]
    while True:
        try:
            check_registry(settings)
            if not outbox.unsent(path):
                return
            reason = "It is still being told what happened."
        except Unavailable as error:
            reason = error.message
            if not told:
                note(f"  waiting for MLflow, {PATIENCE_S['FINISHED'] / 60:.0f} minutes at most")
                told = True
        if time.monotonic() >= end:
            raise Unavailable(
                f"The model of run {run_id} is trained and not registered: {reason}",
                f"Its checkpoints are in {path.parent}; what MLflow has not got of the run is "
                "sent by the next `steelyard train`.",
            )
        time.sleep(outbox.POLL_S)


def send_left(settings: Settings) -> None:
    """Send what earlier runs could not, unless a process of theirs still does."""
    for path in sorted(settings.checkpoint_dir.glob(f"*/{outbox.FILE}")):
        # One without a line was begun just now, by a process that is about to claim it.
        if not path.stat().st_size:
            continue
        with outbox.claimed(path) as mine:
            if not mine:
                continue
            try:
                _send_left(settings, path, path.parent.name)
            except Unavailable as error:
                note(f"Run {path.parent.name} still waits for MLflow: {error.message}")
                return


def _send_left(settings: Settings, path: Path, run_id: str) -> None:
    if not known(settings, run_id):
        note(f"Run {run_id} is not in {settings.registry_uri}; what it had to say stays in {path}")
        return
    if not outbox.ended(path):
        # Whoever began it was killed; a run that has ended stays as it is.
        at_ms = int(path.stat().st_mtime * 1_000)
        outbox.put(path, Item("end", {"status": "FAILED", "at_ms": at_ms}))
    count = outbox.drain(path, sender(settings, run_id))
    outbox.remove(path)
    note(f"Run {run_id}: {count} entries that had waited are in MLflow now")


def experiment_of(settings: Settings, model: str) -> str:
    """The id of a model's experiment, made when it is the first run."""
    client = MlflowClient(settings.registry_uri)
    name = f"steelyard/{model}"
    location = None if settings.mlflow_uri else (settings.artifact_root / name).as_uri()
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            # Another run of the same model was a moment faster.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
            assert found is not None
    return str(found.experiment_id)


def workflow_of(settings: Settings, version: ModelVersion) -> Workflow:
    """The workflow that a version was trained with.

    Raises:
        Refused: the version's run does not carry one.
    """
    try:
        run = MlflowClient(settings.registry_uri).get_run(version.run_id)
        return Workflow.model_validate_json(run.data.tags[WORKFLOW_TAG])
    except (MlflowException, KeyError, ValueError) as error:
        raise Refused(
            f"Nothing says how {version.name} was trained: run {version.run_id or '(none)'} "
            "has no workflow.",
            "Train it with `steelyard train` to get a version that can be compressed.",
        ) from error
