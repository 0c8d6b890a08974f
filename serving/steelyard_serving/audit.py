"""From a request's headers and its outcome to the record of one prediction.

Inputs, outputs and units are recorded by a keyed digest (HMAC-SHA-256): whoever reads the records
without the key cannot find an age or a user's name by trying them all.
"""

import base64
from collections.abc import Mapping
from typing import NamedTuple

from steelyard.domain.audit_digest import KeyedDigest
from steelyard_serving.trace import trace_id

PREDICTION_ID = "x-prediction-id"
PROBE = "x-steelyard-probe"
ANSWER = "x-steelyard-answer"
SHADOWS = "x-steelyard-shadows"
"""On a shadow's request: the prediction that was answered to the client."""
CHOSEN = ("stable", "canary", "shadow", "fallback")
"""What the edge may say of a request that did not ask for its version."""
BINARY = "data:;base64,"
"""What a recorded body begins with that is not text."""


class Outcome(NamedTuple):
    """How a request ended. ``error`` is what the client was told.

    ``answer`` is the body of the answer before it was compressed; None for a refusal, which has
    no outputs. ``latency_us`` is from the first byte of the request to the answer. ``batch``
    numbers the inference within the replica, None when none was run. ``flags`` are words about
    odd inputs, parted by commas. ``keep_inputs`` and ``keep_outputs``: the model's policy asks
    for values instead of digests alone.
    """

    status: int
    busy_ns: int
    items: int = 0
    classes: tuple[int, ...] | None = None
    error: str | None = None
    latency_us: int | None = None
    key_id: str | None = None
    cached: bool = False
    batch: int | None = None
    flags: str | None = None
    answer: bytes | None = None
    keep_inputs: bool = False
    keep_outputs: bool = False


class Answered(NamedTuple):
    """A request that was answered: all that its record is made of. No body: it was too large."""

    prediction_id: str
    headers: Mapping[str, str]
    received_us: int
    body: bytes | None
    outcome: Outcome


def record_of(answered: Answered, digest: KeyedDigest) -> dict[str, object]:
    """What a ``PredictionRecord`` says beyond which replica of which version answered.

    The names come in the order of ``audit_chain.FIELDS``, because these are the bytes that are
    chained. A request that did not come through the edge counts as pinned.
    """
    prediction_id, headers, received_us, body, outcome = answered
    (status, busy_ns, items, classes, error, latency_us, key_id, cached, batch, flags, answer,
     keep_inputs, keep_outputs) = outcome  # fmt: skip
    told = headers.get
    arm = told("x-steelyard-arm")
    unit = told("x-steelyard-unit")
    return {
        "prediction_id": prediction_id,
        "arm": arm if arm in CHOSEN else "pinned",
        "lineage": told("x-steelyard-lineage") or "-",
        "generation": _whole(told("x-steelyard-generation", "")) or 0,
        "bucket": _whole(told("x-steelyard-bucket", "")),
        "received_us": received_us,
        "busy_ns": busy_ns,
        "items": items,
        "status": status,
        # Header bytes arrive as latin-1; encoding them back gives the client's bytes.
        "unit_sha256": None if unit is None else digest(unit.encode("latin-1")),
        "inputs_sha256": None if body is None else digest(body),
        "classes": classes,
        "error": None if error is None else _storable(error),
        "latency_us": latency_us,
        "key_id": key_id,
        "cached": int(cached),
        "batch": batch,
        "outputs_sha256": None if answer is None else digest(answer),
        "flags": flags,
        "inputs": _value(body) if keep_inputs else None,
        "outputs": _value(answer) if keep_outputs else None,
        "shadows": told(SHADOWS),
        "trace_id": trace_id(headers),
    }


def _whole(text: str) -> int | None:
    # Who goes past the edge may write anything; the request was answered and must be recorded.
    return int(text) if text.isdecimal() and len(text) < 19 else None


def _value(data: bytes | None) -> str | None:
    """A body as text, for people; what is none is encoded, and says so by how it begins."""
    if data is None:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    return BINARY + base64.b64encode(data).decode() if "\0" in text else text


def _storable(text: str) -> str:
    # A client's words may be quoted in it; half a surrogate or a NUL fits into no database.
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
