"""``Registry`` on MLflow: what MLflow does not know of a version stands in its tags.

A version is made by one write with all its tags, so it exists whole or not at all; a version
without our tags was made by somebody else and is refused.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from steelyard.adapters.mlflow_answers import unavailable
from steelyard.adapters.mlflow_artifacts import MlflowArtifacts, logged_model
from steelyard.domain.errors import NotFound, Refused
from steelyard.domain.model_files import check_name, check_size
from steelyard.domain.model_version import Candidate, ModelVersion
from steelyard.domain.version_tags import tags_of, version_of

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")

from mlflow.entities.model_registry import ModelVersion as MlflowVersion
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

PREFIX = "steelyard."
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow says of a thing that is not there; anything else is trouble on the way."""
PAGE = 1_000
"""Models in one answer; MLflow gives no more."""


class MlflowRegistry:
    """The registry at a tracking URI: SQLite, PostgreSQL or an MLflow server."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self._artifacts = MlflowArtifacts(self._client, uri)

    def models(self) -> list[str]:
        """The names of all registered models, sorted."""
        return sorted(model.name for model in self._registered())

    def versions(self, model: str) -> list[ModelVersion]:
        """All complete versions of a model, oldest first."""
        by_version: dict[int, list[str]] = {}
        for alias, number in self.aliases(model).items():
            by_version.setdefault(number, []).append(alias)
        try:
            found = self._client.search_model_versions(f"name='{model}'")
        except MlflowException as error:
            raise unavailable(error) from error
        ours = sorted(
            (v for v in found if PREFIX + "sha256" in v.tags), key=lambda v: int(v.version)
        )
        complete = []
        for one in ours:
            with suppress(Refused):  # whoever asks for it by its number is told why
                complete.append(_version(one, tuple(by_version.get(int(one.version), ()))))
        return complete

    def version(self, model: str, version: int) -> ModelVersion:
        """One version.

        Raises:
            NotFound: there is no such model or version.
            Refused: the version was not registered by Steelyard, so nothing vouches for it, or its
                tags are not as they were.
        """
        try:
            found = self._client.get_model_version(model, str(version))
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise unavailable(error) from error
            raise self._missing(model, version) from error
        if PREFIX + "sha256" not in found.tags:
            raise Refused(
                f"{model}/{version} was not registered by Steelyard: it has no digest.",
                "Register it with `steelyard train` or `steelyard compress`.",
            )
        return _version(found, tuple(found.aliases))

    def _missing(self, model: str, version: int) -> NotFound:
        try:
            numbers = ", ".join(str(v.version) for v in self.versions(model))
        except NotFound as absent:
            return absent
        return NotFound(f"{model} has no version {version}.", f"It has: {numbers or 'none'}.")

    def register(self, candidate: Candidate) -> ModelVersion:
        """Make a version out of a logged model in one write, tags and all.

        Raises:
            Refused: its file is of a kind that is not registered, or too large.
        """
        check_name(candidate.artifact)
        check_size(candidate.artifact, candidate.size_bytes)
        try:
            self._client.create_registered_model(candidate.model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        tags = {PREFIX + key: value for key, value in tags_of(candidate).items()}
        made = self._client.create_model_version(
            candidate.model, candidate.source, candidate.run_id, tags=tags,
            model_id=logged_model(candidate.source),
        )  # fmt: skip
        return self.version(candidate.model, int(made.version))

    def aliases(self, model: str) -> dict[str, int]:
        """Alias -> version.

        Raises:
            NotFound: there is no such model.
        """
        try:
            found = self._client.get_registered_model(model)
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise unavailable(error) from error
            known = ", ".join(self.models()) or "none yet"
            raise NotFound(f"There is no model {model!r}.", f"Registered: {known}.") from error
        return {alias: int(version) for alias, version in found.aliases.items()}

    def all_aliases(self) -> dict[str, dict[str, int]]:
        """Model -> alias -> version, of every model at once."""
        return {
            model.name: {alias: int(version) for alias, version in model.aliases.items()}
            for model in self._registered()
        }

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point an alias at a version; repeating it changes nothing.

        Raises:
            NotFound: there is no such model or version.
        """
        try:
            self._client.set_registered_model_alias(model, alias, str(version))
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise unavailable(error) from error
            raise self._missing(model, version) from error

    def drop_alias(self, model: str, alias: str) -> None:
        """Let an alias point nowhere; nothing happens when it does already, or without a model."""
        try:
            self._client.delete_registered_model_alias(model, alias)
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise unavailable(error) from error

    def delete(self, model: str, version: int) -> None:
        """Take a version out of the registry; its files stay where they are.

        Raises:
            NotFound: there is no such version.
        """
        try:
            self._client.delete_model_version(model, str(version))
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise unavailable(error) from error
            raise self._missing(model, version) from error

    def _registered(self) -> Iterator[RegisteredModel]:
        """Every registered model, page after page.

        Raises:
            Unavailable: the registry does not answer.
        """
        token: str | None = None
        while token != "":
            try:
                page = self._client.search_registered_models(max_results=PAGE, page_token=token)
            except MlflowException as error:
                raise unavailable(error) from error
            yield from page
            token = page.token or ""

    def check(self, version: ModelVersion) -> None:
        """Prove the registry's own copy of a version's file; no cached one is taken for it.

        Raises:
            NotFound: it is gone.
            Refused: it is not what was registered; both digests are named.
        """
        self._artifacts.proved(version)

    def fetch(self, version: ModelVersion, cache: Path) -> Path:
        """The artefact under ``cache``, named by its digest, private and checked.

        Raises:
            NotFound: it is gone.
            Refused: it is not what was registered, or of a kind that nothing here may load.
            Unavailable: the disk is full.
        """
        return self._artifacts.cached(version, cache)


def _version(found: MlflowVersion, aliases: tuple[str, ...]) -> ModelVersion:
    tags = {k.removeprefix(PREFIX): v for k, v in found.tags.items() if k.startswith(PREFIX)}
    try:
        return version_of(
            tags, model=found.name, version=int(found.version), run_id=found.run_id or "",
            source=found.source or "", created_us=int(found.creation_timestamp) * 1_000,
            aliases=aliases,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(
            f"{found.name}/{found.version} cannot be read: a tag of it in the registry is missing "
            f"or was changed: {error}.",
            f"Set its tags back; ours begin with {PREFIX}",
        ) from error
