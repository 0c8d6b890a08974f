"""From a request's headers and its outcome to the record of one prediction."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast
from uuid import uuid4

from steelyard.domain.audit import ArmName, PredictionRecord
from steelyard.domain.model_version import ModelVersion

PREDICTION_ID = "x-prediction-id"
PROBE = "x-steelyard-probe"
ANSWER = "x-steelyard-answer"


@dataclass(frozen=True, slots=True)
class Choice:
    """What the edge decided about a request, as it told the replica in headers."""

    prediction_id: str
    arm: ArmName
    lineage: str
    generation: int
    bucket: int | None
    unit: str | None
    probe: bool


def read_choice(headers: Mapping[str, str]) -> Choice:
    """Read the edge's headers. A request that did not come through the edge counts as pinned."""
    arm = headers.get("x-steelyard-arm", "pinned")
    bucket = headers.get("x-steelyard-bucket", "")
    return Choice(
        prediction_id=headers.get(PREDICTION_ID) or str(uuid4()),
        arm=cast(ArmName, arm) if arm in ("stable", "canary") else "pinned",
        lineage=headers.get("x-steelyard-lineage") or "-",
        generation=int(headers.get("x-steelyard-generation") or 0),
        bucket=int(bucket) if bucket else None,
        unit=headers.get("x-steelyard-unit"),
        probe=PROBE in headers,
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended. ``error`` is what the client was told."""

    status: int
    busy_ns: int
    items: int = 0
    classes: tuple[int, ...] | None = None
    error: str | None = None


def record_of(
    choice: Choice, version: ModelVersion, resource_id: str, received_us: int,
    body: bytes | None, outcome: Outcome,
) -> PredictionRecord:  # fmt: skip
    """The audit row: digests instead of the inputs and the unit. No body: it was too large."""
    return PredictionRecord(
        prediction_id=choice.prediction_id,
        model=version.model,
        version=version.version,
        sha256=version.sha256,
        resource_id=resource_id,
        arm=choice.arm,
        lineage=choice.lineage,
        generation=choice.generation,
        bucket=choice.bucket,
        received_us=received_us,
        busy_ns=outcome.busy_ns,
        items=outcome.items,
        status=outcome.status,
        # Header bytes arrive as latin-1; encoding them back gives the client's bytes.
        unit_sha256=None if choice.unit is None else _sha256(choice.unit.encode("latin-1")),
        inputs_sha256=None if body is None else _sha256(body),
        classes=outcome.classes,
        error=outcome.error,
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
