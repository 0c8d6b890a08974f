"""``Registry`` on MLflow: what MLflow does not know of a version stands in its tags.

A version is made by one write with all its tags, so it exists whole or not at all; a version
without our tags was made by somebody else and is refused.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from steelyard.adapters.mlflow_answers import unavailable
from steelyard.adapters.mlflow_artifacts import MlflowArtifacts, logged_model
from steelyard.domain.envelope import Envelope, envelope_digest, envelope_of, text_of
from steelyard.domain.errors import InvalidInput, NotFound, Refused
from steelyard.domain.evidence import Evidence, document, evidence_digest, read
from steelyard.domain.model_files import check_name, check_size
from steelyard.domain.model_version import (
    ONNXRUNTIME,
    Candidate,
    FlopsProfile,
    ModelVersion,
    Signature,
    TensorSpec,
)

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")

from mlflow.entities.model_registry import ModelVersion as MlflowVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

PREFIX = "steelyard."
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow says of a thing that is not there; anything else is trouble on the way."""


class MlflowRegistry:
    """The registry at a tracking URI: SQLite, PostgreSQL or an MLflow server."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self._artifacts = MlflowArtifacts(self._client, uri)

    def models(self) -> list[str]:
        """The names of all registered models, sorted."""
        try:
            return sorted(m.name for m in self._client.search_registered_models())
        except MlflowException as error:
            raise unavailable(error) from error

    def versions(self, model: str) -> list[ModelVersion]:
        """All complete versions of a model, oldest first."""
        by_version: dict[int, list[str]] = {}
        for alias, number in self.aliases(model).items():
            by_version.setdefault(number, []).append(alias)
        try:
            found = self._client.search_model_versions(f"name='{model}'")
        except MlflowException as error:
            raise unavailable(error) from error
        ours = [v for v in found if PREFIX + "sha256" in v.tags]
        return [
            _version(v, tuple(by_version.get(int(v.version), ())))
            for v in sorted(ours, key=lambda v: int(v.version))
        ]

    def version(self, model: str, version: int) -> ModelVersion:
        """One version.

        Raises:
            NotFound: there is no such model or version.
            Refused: the version was not registered by Steelyard, so nothing vouches for it.
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
        made = self._client.create_model_version(
            candidate.model, candidate.source, candidate.run_id, tags=_tags(candidate),
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

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point an alias at a version; repeating it changes nothing."""
        if self.aliases(model).get(alias) != version:
            self._client.set_registered_model_alias(model, alias, str(version))

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


def _tags(candidate: Candidate) -> dict[str, str]:
    tags: dict[str, Any] = {
        "artifact": candidate.artifact,
        "sha256": candidate.sha256,
        "size_bytes": candidate.size_bytes,
        "variant": candidate.variant,
        "relation": candidate.relation,
        "parent_version": candidate.parent,
        "parameters": candidate.parameters,
        "recipe_sha256": candidate.recipe_sha256,
        "runtime": candidate.runtime,
        "signature": json.dumps(asdict(candidate.signature)),
        "flops": json.dumps(asdict(candidate.flops)) if candidate.flops else None,
        **_evidence_tags(candidate.evidence),
        **_envelope_tags(candidate.envelope),
    }
    return {PREFIX + key: str(value) for key, value in tags.items() if value is not None}


def _evidence_tags(evidence: Evidence | None) -> dict[str, str]:
    if evidence is None:
        return {}
    return {
        "evidence": json.dumps(document(evidence), sort_keys=True),
        "evidence_sha256": evidence_digest(evidence),
    }


def _evidence(text: str | None) -> Evidence | None:
    """The record of a tag; one that nobody can read is none, and is told from the ledger's."""
    try:
        return read(json.loads(text)) if text else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _envelope_tags(envelope: Envelope | None) -> dict[str, str]:
    if envelope is None:
        return {}
    return {"envelope": text_of(envelope), "envelope_sha256": envelope_digest(envelope)}


def _envelope(tags: Mapping[str, str]) -> Envelope | None:
    """The envelope of the tags; one that is not what was registered is none: nothing is known."""
    try:
        found = envelope_of(tags["envelope"])
    except (InvalidInput, KeyError):
        return None
    return found if envelope_digest(found) == tags.get("envelope_sha256") else None


def _version(found: MlflowVersion, aliases: tuple[str, ...]) -> ModelVersion:
    tags = {k.removeprefix(PREFIX): v for k, v in found.tags.items() if k.startswith(PREFIX)}
    flops = tags.get("flops")
    signature = json.loads(tags["signature"])
    parent = tags.get("parent_version", tags.get("parent"))  # its older name
    return ModelVersion(
        model=found.name,
        version=int(found.version),
        run_id=found.run_id or "",
        source=found.source or "",
        artifact=tags["artifact"],
        sha256=tags["sha256"],
        size_bytes=int(tags["size_bytes"]),
        variant=tags["variant"],
        relation=tags["relation"],  # type: ignore[arg-type]  # written by _tags from a Candidate
        signature=Signature(_specs(signature["inputs"]), _specs(signature["outputs"])),
        created_us=int(found.creation_timestamp) * 1_000,
        parent=int(parent) if parent is not None else None,
        parameters=int(tags["parameters"]) if "parameters" in tags else None,
        flops=_flops(json.loads(flops)) if flops else None,
        evidence=_evidence(tags.get("evidence")),
        aliases=aliases,
        recipe_sha256=tags.get("recipe_sha256"),
        runtime=tags.get("runtime", ONNXRUNTIME),  # older versions do not say
        envelope=_envelope(tags),
    )


def _flops(row: dict[str, Any]) -> FlopsProfile:
    return FlopsProfile(**row | {"unsupported": tuple(row.get("unsupported", ()))})


def _specs(rows: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(r["name"], r["datatype"], tuple(r["shape"])) for r in rows)
