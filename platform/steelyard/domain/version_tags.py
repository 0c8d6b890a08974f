"""A version as plain text tags and back: what a registry or a row keeps of it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from steelyard.domain.envelope import Envelope, envelope_digest, envelope_of, text_of
from steelyard.domain.errors import InvalidInput
from steelyard.domain.evidence import Evidence, document, evidence_digest, read
from steelyard.domain.model_version import (
    ONNXRUNTIME,
    Candidate,
    FlopsProfile,
    ModelVersion,
    Signature,
    TensorSpec,
)


def tags_of(version: Candidate | ModelVersion) -> dict[str, str]:
    """All of a version that whoever numbers versions does not know by itself."""
    tags: dict[str, Any] = {
        "artifact": version.artifact,
        "sha256": version.sha256,
        "size_bytes": version.size_bytes,
        "variant": version.variant,
        "relation": version.relation,
        "parent_version": version.parent,
        "parameters": version.parameters,
        "recipe_sha256": version.recipe_sha256,
        "runtime": version.runtime,
        "signature": json.dumps(asdict(version.signature)),
        "flops": json.dumps(asdict(version.flops)) if version.flops else None,
        **_evidence_tags(version.evidence),
        **_envelope_tags(version.envelope),
    }
    return {key: str(value) for key, value in tags.items() if value is not None}


def version_of(
    tags: Mapping[str, str], *, model: str, version: int, run_id: str, source: str,
    created_us: int, aliases: tuple[str, ...] = (),
) -> ModelVersion:  # fmt: skip
    """The version that was told in tags, under its number.

    Evidence and an envelope that cannot be read, or are not what was registered, are left out:
    nothing is known.
    """
    flops = tags.get("flops")
    signature = json.loads(tags["signature"])
    parent = tags.get("parent_version", tags.get("parent"))  # its older name
    return ModelVersion(
        model=model,
        version=version,
        run_id=run_id,
        source=source,
        artifact=tags["artifact"],
        sha256=tags["sha256"],
        size_bytes=int(tags["size_bytes"]),
        variant=tags["variant"],
        relation=tags["relation"],  # type: ignore[arg-type]  # written by tags_of
        signature=Signature(_specs(signature["inputs"]), _specs(signature["outputs"])),
        created_us=created_us,
        parent=int(parent) if parent is not None else None,
        parameters=int(tags["parameters"]) if "parameters" in tags else None,
        flops=_flops(json.loads(flops)) if flops else None,
        evidence=_evidence(tags.get("evidence")),
        aliases=aliases,
        recipe_sha256=tags.get("recipe_sha256"),
        runtime=tags.get("runtime", ONNXRUNTIME),  # older versions do not say
        envelope=_envelope(tags),
    )


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


def _flops(row: dict[str, Any]) -> FlopsProfile:
    return FlopsProfile(**row | {"unsupported": tuple(row.get("unsupported", ()))})


def _specs(rows: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(r["name"], r["datatype"], tuple(r["shape"])) for r in rows)
