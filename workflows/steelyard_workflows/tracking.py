"""The experiment tracker: one MLflow run per workflow, finished, failed or killed, never open.

Only the driver talks to MLflow: training workers have neither MLflow nor its credentials.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import mlflow
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from steelyard.domain.errors import Refused
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_workflows.workflow import Workflow

WORKFLOW_TAG = "steelyard.workflow"
"""The run's complete workflow as JSON: what makes a variant's data the parent's data."""


@contextmanager
def tracked(
    settings: Settings, workflow: Workflow, name: str, tags: Mapping[str, str]
) -> Iterator[str]:
    """An active MLflow run; yields its id.

    It ends FINISHED, FAILED when the block raises, KILLED on Ctrl-C.
    """
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    mlflow.set_tracking_uri(settings.registry_uri)
    mlflow.set_registry_uri(settings.registry_uri)
    all_tags = {WORKFLOW_TAG: workflow.model_dump_json(), **tags}
    run = mlflow.start_run(
        experiment_id=_experiment(settings, workflow.model),
        run_name=name,
        tags=all_tags,
        log_system_metrics=False,
    )
    status = "FAILED"
    try:
        mlflow.log_params(workflow.parameters())
        yield run.info.run_id
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        mlflow.end_run(status)


def _experiment(settings: Settings, model: str) -> str:
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


def log_metrics(
    settings: Settings, run_id: str, metrics: Mapping[str, float], step: int, at_us: int
) -> None:
    """Write the metrics of one step in one call. Safe from any thread."""
    rows = [Metric(key, value, at_us // 1_000, step) for key, value in metrics.items()]
    MlflowClient(settings.registry_uri).log_batch(run_id, metrics=rows)


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
