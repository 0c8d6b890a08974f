"""The record of one prediction: enough to say who answered, why, and what it cost."""

from dataclasses import dataclass
from typing import Literal

ArmName = Literal["stable", "canary", "pinned"]


@dataclass(frozen=True, slots=True)
class PredictionRecord:
    """One answered inference request, written by the replica that ran it.

    ``bucket`` is in [0, 10000); ``lineage`` and ``generation`` name the weight table that chose
    the arm; ``classes`` holds the arg max of each row of a classifier's first output, else None.
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
