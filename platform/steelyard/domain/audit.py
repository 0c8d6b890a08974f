"""The record of one prediction: enough to say who answered, why, and what it cost."""

from dataclasses import dataclass
from typing import Literal

ArmName = Literal["stable", "canary", "pinned", "shadow", "fallback"]
"""``fallback``: stable answered because the canary could not be reached, which is its failure."""
BLAMELESS = (503, 504)
"""Errors that are not the version's: a key's limits could not be kept, or the client's time was
over before its turn."""


@dataclass(frozen=True, slots=True)
class PredictionRecord:
    """One answered inference request, written by the replica that ran it.

    ``bucket`` is in [0, 10000); ``lineage`` and ``generation`` name the weight table that chose
    the arm; ``classes`` holds the arg max of each row of a classifier's first output, else None.
    ``latency_us`` is from the first byte of the request to the answer. ``batch`` numbers the
    inference within the replica that this and perhaps other requests shared; None when none was
    run for it. ``cached`` is 1 for an answer from the cache. ``flags`` says what was odd about the
    inputs. ``inputs`` and ``outputs`` are there only if the model's policy says so. A shadow's
    record names in ``shadows`` the prediction whose request it repeats. ``digest_method`` says how
    the digests of unit, inputs and outputs were made: None is plain SHA-256, as early records are;
    ``hmac-sha256:<id>`` names the key by a digest of it.
    """

    prediction_id: str
    model: str
    version: int
    sha256: str
    resource_id: str
    arm: ArmName
    lineage: str
    generation: int
    bucket: int | None
    received_us: int
    busy_ns: int
    items: int
    status: int
    unit_sha256: str | None = None
    inputs_sha256: str | None = None
    classes: tuple[int, ...] | None = None
    error: str | None = None
    latency_us: int | None = None
    key_id: str | None = None
    cached: int = 0
    batch: int | None = None
    outputs_sha256: str | None = None
    flags: str | None = None
    inputs: str | None = None
    outputs: str | None = None
    shadows: str | None = None
    trace_id: str | None = None
    digest_method: str | None = None
