"""From a request's headers and its outcome to the record of one prediction."""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple, TypedDict, cast

from steelyard.domain.audit import ArmName

PREDICTION_ID = "x-prediction-id"
PROBE = "x-steelyard-probe"
ANSWER = "x-steelyard-answer"


class Outcome(NamedTuple):
    """How a request ended. ``error`` is what the client was told."""

    status: int
    busy_ns: int
    items: int = 0
    classes: tuple[int, ...] | None = None
    error: str | None = None


class Answered(NamedTuple):
    """A request that was answered: all that its record is made of. No body: it was too large."""

    prediction_id: str
    headers: Mapping[str, str]
    received_us: int
    body: bytes | None
    outcome: Outcome


class Record(TypedDict):
    """What a ``PredictionRecord`` says beyond which replica of which version answered."""

    prediction_id: str
    arm: ArmName
    lineage: str
    generation: int
    bucket: int | None
    received_us: int
    busy_ns: int
    items: int
    status: int
    unit_sha256: str | None
    inputs_sha256: str | None
    classes: tuple[int, ...] | None
    error: str | None


def record_of(answered: Answered) -> Record:
    """The audit row: the edge's choice, and digests instead of the inputs and the unit.

    A request that did not come through the edge counts as pinned.
    """
    prediction_id, headers, received_us, body, outcome = answered
    arm = headers.get("x-steelyard-arm")
    unit = headers.get("x-steelyard-unit")
    return {
        "prediction_id": prediction_id,
        "arm": cast(ArmName, arm) if arm in ("stable", "canary") else "pinned",
        "lineage": headers.get("x-steelyard-lineage") or "-",
        "generation": _whole(headers.get("x-steelyard-generation", "")) or 0,
        "bucket": _whole(headers.get("x-steelyard-bucket", "")),
        "received_us": received_us,
        "busy_ns": outcome.busy_ns,
        "items": outcome.items,
        "status": outcome.status,
        # Header bytes arrive as latin-1; encoding them back gives the client's bytes.
        "unit_sha256": None if unit is None else _sha256(unit.encode("latin-1")),
        "inputs_sha256": None if body is None else _sha256(body),
        "classes": outcome.classes,
        "error": outcome.error,
    }


def _whole(text: str) -> int | None:
    # Who goes past the edge may write anything; the request was answered and must be recorded.
    return int(text) if text.isdecimal() and len(text) < 19 else None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
