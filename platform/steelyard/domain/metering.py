"""The facts that producers measure: resources, supply windows, usage windows, run attempts.

A *producer* is one process that measures (a replica, the controller of a training run). Within
one boot it numbers its rows, so that a gap shows. Times are int microseconds UTC (``_us``),
work is nanoseconds (``_ns``). What is not known is ``None``, never 0.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

import orjson

ResourceKind = Literal["replica", "train_worker", "node", "reservation"]
LedgerPhase = Literal["training", "inference"]
Activity = Literal[
    "train", "tune", "evaluate", "compress", "distill_label", "serve", "batch", "stream", "shadow",
    "warmup", "edge",
]  # fmt: skip
Outcome = Literal["running", "ok", "failed", "cancelled"]
EnergyMethod = Literal[
    "unknown", "metered_wall", "counter_gpu", "counter_cpu", "sampled_power", "modelled_load",
    "nameplate",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that is reserved and therefore paid for, from ``started_us`` until it ends."""

    resource_id: str
    kind: ResourceKind
    device_model: str
    device_count: int
    slots: int
    price_sku: str
    started_us: int
    region: str | None = None
    team: str | None = None


@dataclass(frozen=True, slots=True)
class ResourceEnd:
    """A resource was given back, by its own word.

    What silence ends has an inferred window instead (``domain.silence``); ``inferred`` ends are
    those of ledgers that could not take them back yet, and count for nothing.
    """

    resource_id: str
    ended_us: int
    inferred: bool = False


@dataclass(frozen=True, slots=True)
class SupplyWindow:
    """What one resource had reserved in a closed window.

    ``reserved_us`` is device-microseconds: wall time × devices. ``cpu_us`` is the process CPU
    time, for the load model of energy. ``energy_mj`` is None exactly when the method is unknown;
    ``energy_boundary`` says what the meter saw: ``chip``, ``node`` or ``wall``.
    """

    producer_id: str
    boot_id: str
    seq: int
    resource_id: str
    window_start_us: int
    window_end_us: int
    reserved_us: int
    cpu_us: int | None = None
    energy_mj: int | None = None
    energy_method: EnergyMethod = "unknown"
    energy_boundary: str | None = None

    def __post_init__(self) -> None:
        _ordered(self.window_start_us, self.window_end_us)
        if (self.energy_mj is None) != (self.energy_method == "unknown"):
            raise ValueError("energy_mj is None exactly when energy_method is 'unknown'")

    @property
    def idem_key(self) -> str:
        """The same window of the same producer has the same key, whoever computes it."""
        return _digest([self.producer_id, self.boot_id, "supply", self.resource_id,
                        self.window_start_us])  # fmt: skip


@dataclass(frozen=True, slots=True)
class UsageWindow:
    """What one activity did on a resource in a window.

    ``busy_ns`` sums execution intervals; a batch occupies a slot once, waiting is excluded.
    ``version`` is None while a run has no registered version yet; then ``run_id`` is set.
    Cache hits are counted among the requests and cost nothing; what they avoided is not credited.
    ``flop`` is an exact integer, or None when the version's FLOPs are not known; ``datatype`` is
    what most of it was computed in (``fp32``, ``bf16``), None when the producer does not say.
    """

    producer_id: str
    boot_id: str
    seq: int
    resource_id: str
    window_start_us: int
    window_end_us: int
    model: str
    version: int | None
    phase: LedgerPhase
    activity: Activity
    run_id: str | None = None
    attempt: int | None = None
    requests: int = 0
    errors: int = 0
    cache_hits: int = 0
    items: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    busy_ns: int = 0
    flop: int | None = None
    datatype: str | None = None

    def __post_init__(self) -> None:
        _ordered(self.window_start_us, self.window_end_us)
        if self.version is None and self.run_id is None:
            raise ValueError("a usage window names a version or a run")

    @property
    def idem_key(self) -> str:
        """The same window, stream and activity of the same producer has the same key."""
        return _digest([self.producer_id, self.boot_id, "usage", self.resource_id,
                        self.window_start_us, self.model, self.version, self.phase, self.activity,
                        self.run_id, self.attempt])  # fmt: skip


@dataclass(frozen=True, slots=True)
class BootEnd:
    """A producer's last word: it numbered its windows up to ``last_seq`` in this boot."""

    producer_id: str
    boot_id: str
    last_seq: int
    ended_us: int


@dataclass(frozen=True, slots=True)
class RunAttempt:
    """One attempt of a training or compression run; failed attempts cost money too."""

    run_id: str
    attempt: int
    model: str
    outcome: Outcome
    started_us: int
    ended_us: int | None = None


def _ordered(start_us: int, end_us: int) -> None:
    if end_us <= start_us:
        raise ValueError(f"a window ends after it starts, found {start_us}..{end_us}")


def _digest(parts: list[object]) -> str:
    return sha256(orjson.dumps(parts)).hexdigest()
