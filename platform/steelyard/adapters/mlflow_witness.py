"""``Witness`` on MLflow: the tags of one experiment, ``steelyard.`` + the statement's key."""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from steelyard.adapters.mlflow_answers import check_answers, unavailable
from steelyard.domain.errors import Refused

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

PREFIX = "steelyard."


class MlflowWitness:
    """Statements as tags of an experiment at a tracking URI.

    ``artifacts`` is where an experiment of this name would keep files, which this one has none
    of; None leaves the choice to the server.
    """

    def __init__(self, uri: str, experiment: str, artifacts: Path | None) -> None:
        self._uri = uri
        self._name = experiment
        self._artifacts = artifacts

    @cached_property
    def _client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    def published(self) -> dict[str, str]:
        """Every statement that was made; also in an experiment that was deleted since."""
        found = self._find()
        return {} if found is None else _statements(found)

    def publish(self, statements: Mapping[str, str]) -> None:
        """Write a tag for each statement that has none; a tag that is there stays.

        Raises:
            Unavailable: MLflow does not answer, or takes no tag.
            Refused: somebody deleted the experiment.
        """
        try:
            found = self._find() or self._make()
            if found.lifecycle_stage != "active":
                raise Refused(
                    f"The experiment {self._name!r}, where the ledger's heads are published, was "
                    "deleted in MLflow.",
                    "Restore it; until then nothing can be published.",
                )
            for key in sorted(statements.keys() - _statements(found).keys()):
                tag = PREFIX + key
                self._client.set_experiment_tag(found.experiment_id, tag, statements[key])
        except MlflowException as error:
            raise unavailable(error) from error

    def _find(self) -> Experiment | None:
        check_answers(self._uri)
        if self._is_new():
            return None
        try:
            return self._client.get_experiment_by_name(self._name)
        except MlflowException as error:
            raise unavailable(error) from error

    def _is_new(self) -> bool:
        """No file of the embedded registry yet: opening it would make one, which takes seconds."""
        path = self._uri.removeprefix("sqlite:///")
        return path != self._uri and not Path(path).exists()

    def _make(self) -> Experiment:
        location = None if self._artifacts is None else (self._artifacts / self._name).as_uri()
        try:
            made = self._client.create_experiment(self._name, artifact_location=location)
            return self._client.get_experiment(made)
        except MlflowException as error:
            # Another process was a moment faster.
            found = self._client.get_experiment_by_name(self._name)
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                raise
            return found


def _statements(experiment: Experiment) -> dict[str, str]:
    tags = experiment.tags.items()
    return {key.removeprefix(PREFIX): text for key, text in tags if key.startswith(PREFIX)}
