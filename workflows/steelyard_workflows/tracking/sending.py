"""How one line of an outbox is said to MLflow, and which failures mean that nobody is there.

Everything here may be said twice: MLflow ignores a metric with the same key, value, step and
time, a parameter with the same value, and a data set with the same name and digest.
"""

from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from steelyard.bootstrap.registry import check_registry
from steelyard.domain.errors import Refused, Unavailable
from steelyard.settings import Settings
from steelyard_workflows.tracking.outbox import Item, Send

PASSING = (401, 403, 408, 429)
"""Statuses that a person or time mends; other ones below 500 are about what was said."""
AT_ONCE, METRICS_AT_ONCE = 100, 1_000
"""Parameters or tags, and metrics, that MLflow takes in one call."""


def sender(settings: Settings, run_id: str) -> Send:
    """What says lines for one run.

    It raises Unavailable when MLflow does not answer, Refused when it does not take a line.
    """
    client = MlflowClient(settings.registry_uri)

    def send(item: Item) -> None:
        check_registry(settings)
        try:
            _say(client, run_id, item)
        except MlflowException as error:
            raise _meaning(error, item) from error
        except FileNotFoundError as error:
            raise Refused(f"the file {error.filename} is gone.") from error
        except OSError as error:  # of requests too: the server went away in the middle of it
            answer = getattr(error, "response", None)
            raise _told(getattr(answer, "status_code", 500), str(error), item) from error

    return send


def known(settings: Settings, run_id: str) -> bool:
    """Whether this MLflow has the run; another one may have begun it.

    Raises:
        Unavailable: MLflow does not answer.
    """
    check_registry(settings)
    try:
        MlflowClient(settings.registry_uri).get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise Unavailable(f"The registry does not answer: {error}.") from error
    return True


def _meaning(error: MlflowException, item: Item) -> Refused | Unavailable:
    status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
    return _told(status, str(error).strip().splitlines()[0], item)


def _told(status: int, words: str, item: Item) -> Refused | Unavailable:
    if status >= 500 or status in PASSING:
        return Unavailable(f"The registry does not answer: {words}.")
    return Refused(f"MLflow does not take {item.kind} of the run: {words}")


def _say(client: MlflowClient, run_id: str, item: Item) -> None:
    values = item.values
    match item.kind:
        case "params":
            for part in _parts(values):
                client.log_batch(run_id, params=[Param(k, v) for k, v in part.items()])
        case "tags":
            for part in _parts(values):
                client.log_batch(run_id, tags=[RunTag(k, v) for k, v in part.items()])
        case "metrics":
            rows = [Metric(*row) for row in values["rows"]]
            for n in range(0, len(rows), METRICS_AT_ONCE):
                client.log_batch(run_id, metrics=rows[n : n + METRICS_AT_ONCE])
        case "dataset":
            tags = [InputTag("mlflow.data.context", values["context"])]
            client.log_inputs(run_id, [DatasetInput(Dataset(**values["dataset"]), tags)])
        case "artifact":
            client.log_artifact(run_id, values["path"], values["folder"] or None)
        case "end":
            # Once it has ended, how it ended stays.
            if client.get_run(run_id).info.status == "RUNNING":
                client.set_terminated(run_id, values["status"], values["at_ms"])


def _parts(values: dict[str, Any]) -> list[dict[str, Any]]:
    rows = list(values.items())
    return [dict(rows[n : n + AT_ONCE]) for n in range(0, len(rows), AT_ONCE)]
