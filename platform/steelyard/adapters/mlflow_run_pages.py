"""``RunPages`` on MLflow: text files among a run's artefacts."""

import os
import tempfile
from pathlib import Path

from steelyard.adapters.mlflow_answers import check_answers, unavailable
from steelyard.domain.errors import NotFound

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow says of a run that is not there, or that was deleted."""


class MlflowRunPages:
    """Artefacts of runs at a tracking URI."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def text(self, run_id: str, name: str) -> str | None:
        """A text file at the top of a run's artefacts; None when there is none.

        Raises:
            Unavailable: MLflow does not answer.
        """
        check_answers(self._uri)
        try:
            if name not in {file.path for file in self._client.list_artifacts(run_id)}:
                return None
            with tempfile.TemporaryDirectory() as scratch:
                path = self._client.download_artifacts(run_id, name, scratch)
                return Path(path).read_text(encoding="utf-8")
        except MlflowException as error:
            if error.error_code in ABSENT:
                return None
            raise unavailable(error) from error

    def keep(self, run_id: str, name: str, text: str) -> None:
        """Write a text file at the top of a run's artefacts; an earlier one is replaced.

        Raises:
            NotFound: there is no such run.
            Unavailable: MLflow does not answer.
        """
        check_answers(self._uri)
        try:
            self._client.get_run(run_id)
            self._client.log_text(run_id, text, name)
        except MlflowException as error:
            if error.error_code in ABSENT:
                raise NotFound(f"Run {run_id} is not in the tracker: {error}") from error
            raise unavailable(error) from error
