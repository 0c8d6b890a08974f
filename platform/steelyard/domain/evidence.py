"""What was measured of a version: an immutable record, its digest, and where it holds.

A record says of which bytes, which rows and which hardware it speaks. Fields that are not known
are None and left out of the digest, so that a field of a later Steelyard changes no old digest.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from steelyard.domain.hash_chain import digest

DECIDES_SPEED = ("machine", "cpu_flags", "runtime", "provider", "threads")
"""What makes figures of speed and energy those of other hardware, when it differs."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Calls of ``batch`` rows: wall milliseconds of a call, CPU milliseconds of one row."""

    batch: int
    ms_p50: float
    ms_p95: float
    ms_p99: float
    cpu_ms_per_row: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What one file takes to hold and to run.

    ``memory_bytes`` is what a process grew by when it loaded the file and answered once.
    ``parameters`` and ``nonzero`` count weights, quantized ones too. ``energy_mj`` is millijoules
    of one row at batch 1, ``energy_method`` its tier: every modelled figure is an estimate.
    ``calibration_error`` is the expected one (ECE, 15 bins) in [0, 1].
    """

    speeds: tuple[Speed, ...] = ()
    load_s: float | None = None
    memory_bytes: int | None = None
    parameters: int | None = None
    nonzero: int | None = None
    energy_mj: float | None = None
    energy_method: str | None = None
    calibration_error: float | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """Quality on the labels of one class."""

    name: str
    labels: int
    accuracy: float
    parent_accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured on this version, beside its parent, on the named hardware.

    ``accuracy`` in [0, 1] over the ``labels`` of ``examples`` held-out rows, with its 95 %
    interval; ``chance`` is what the same answers would get if they had nothing to do with the
    labels. Latency is wall milliseconds at batch 1 in one thread. ``agreement`` is top-1 agreement
    with the parent; ``parent_only_right`` and ``own_only_right`` count the labels on which just
    one of the two was right. ``kl_mean`` is in nats. ``hardware`` says where.
    """

    size_bytes: int
    accuracy: float
    examples: int
    latency_ms_p50: float
    latency_ms_p95: float
    hardware: Mapping[str, str]
    parent_size_bytes: int | None = None
    parent_accuracy: float | None = None
    parent_latency_ms_p50: float | None = None
    parent_latency_ms_p95: float | None = None
    agreement: float | None = None
    data_sha256: str | None = None
    artifact_sha256: str | None = None
    parent_sha256: str | None = None
    labels: int | None = None
    chance: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    parent_only_right: int | None = None
    own_only_right: int | None = None
    kl_mean: float | None = None
    cosine_mean: float | None = None
    cosine_min: float | None = None
    load_average: float | None = None
    own: Figures | None = None
    parent: Figures | None = None
    slices: tuple[Slice, ...] = ()

    @property
    def compared(self) -> bool:
        """Whether it was measured beside its parent."""
        return self.parent_size_bytes is not None


def other_hardware(hardware: Mapping[str, str], here: Mapping[str, str]) -> tuple[str, ...]:
    """What makes figures measured there say nothing of here; empty when they hold.

    >>> other_hardware({"runtime": "onnxruntime 1.30"}, {"runtime": "onnxruntime 1.31"})
    ('runtime: onnxruntime 1.30, here onnxruntime 1.31',)
    """
    return tuple(
        f"{key}: {hardware.get(key, 'unknown')}, here {here.get(key, 'unknown')}"
        for key in DECIDES_SPEED
        if hardware.get(key) != here.get(key)
    )


def document(evidence: Evidence) -> dict[str, Any]:
    """The record as JSON has it, without what is not known."""
    known: dict[str, Any] = _known(asdict(evidence))
    return known


def read(found: Mapping[str, Any]) -> Evidence:
    """A record from its document; keys of a later Steelyard are passed over.

    Raises:
        TypeError, KeyError: it is not the document of a record.
    """
    values = {f.name: found[f.name] for f in fields(Evidence) if f.name in found}
    for side in ("own", "parent"):
        if values.get(side) is not None:
            values[side] = _figures(values[side])
    values["slices"] = tuple(Slice(**one) for one in values.get("slices", ()))
    values["hardware"] = {str(k): str(v) for k, v in values["hardware"].items()}
    return Evidence(**values)


def evidence_digest(evidence: Evidence) -> str:
    """SHA-256 of the record's canonical bytes, by which it is known."""
    return digest(flat(evidence))


def flat(evidence: Evidence) -> dict[str, Any]:
    """The record as one row: dotted names, numbers with a point as their shortest exact text."""
    return dict(_flat("", document(evidence)))


def differences(ours: Evidence, theirs: Evidence) -> tuple[str, ...]:
    """The dotted names of the fields in which two records differ."""
    one, other = flat(ours), flat(theirs)
    return tuple(sorted(k for k in one.keys() | other.keys() if one.get(k) != other.get(k)))


def _figures(found: Mapping[str, Any]) -> Figures:
    names = {f.name for f in fields(Figures)}
    values = {key: value for key, value in found.items() if key in names}
    return Figures(**values | {"speeds": tuple(Speed(**s) for s in found.get("speeds", ()))})


def _known(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _known(v) for k, v in value.items() if v is not None and v != ()}
    if isinstance(value, list | tuple):
        return [_known(one) for one in value]
    return value


def _flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [row for key in value for row in _flat(f"{prefix}{key}.", value[key])]
    if isinstance(value, list):
        return [row for n, one in enumerate(value) for row in _flat(f"{prefix}{n}.", one)]
    return [(prefix[:-1], repr(value) if isinstance(value, float) else value)]
