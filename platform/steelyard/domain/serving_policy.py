"""How one model answers: what may change while it serves, without a restart.

A policy is data: a person sets it, SQL keeps every one that was set, replicas read the latest from
the signed snapshot (``domain/serving_snapshot``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.header_rules import rules_faults, rules_in, written
from steelyard.domain.unit_key import field_fault, header_fault

Outside = Literal["accept", "flag", "refuse"]
Recorded = Literal["digest", "values"]
CHOICES: Mapping[str, tuple[str, ...]] = {
    "outside": ("accept", "flag", "refuse"),
    "record_inputs": ("digest", "values"),
    "record_outputs": ("digest", "values"),
}
RANGES: Mapping[str, tuple[int, int]] = {
    "batch_latency_ms": (0, 60_000),
    "batch_items": (1, 1_024),
    "cache_bytes": (0, 2**34),
    "cache_ttl_s": (1, 7 * 86_400),
    "retention_days": (0, 3_650),
    "replicas_min": (1, 256),
    "replicas_max": (1, 256),
}


def _faults_of(check: Callable[[str], str | None]) -> Callable[[str], Sequence[str]]:
    return lambda text: [why] if (why := check(text)) else []


TEXTS: Mapping[str, tuple[Callable[[str], str], Callable[[str], Sequence[str]]]] = {
    "unit_header": (str.lower, _faults_of(header_fault)),
    "unit_field": (str, _faults_of(field_fault)),
    "rules": (lambda text: written(rules_in(text)), rules_faults),
}
"""How each text is written, and what may be wrong with it; the empty one is always right."""


@dataclass(frozen=True, slots=True)
class ServingPolicy:
    """The policy of one model; its defaults are those of a model for which nobody set one.

    ``batch_latency_ms``: the time within which an answer should be there, which batches are cut
    to; 0 turns batching off. ``batch_items``: most rows of a batch. ``cache_bytes``: room for
    cached answers in each replica; 0 turns the cache off. ``cache_ttl_s``: how long one is good.
    ``outside``: what happens to rows outside the training envelope. ``record_inputs`` and
    ``record_outputs``: whether predictions are recorded by a keyed digest or with their values.
    ``retention_days``: how long predictions are kept; 0 is for ever. ``replicas_min`` and
    ``replicas_max``: between them, the number follows the load. ``unit_header`` and ``unit_field``:
    where a request says whose it is, besides ``x-unit-id`` (``domain/unit_key``). ``rules``: which
    headers send a request to which version (``domain/header_rules``).
    """

    batch_latency_ms: int = 0
    batch_items: int = 64
    cache_bytes: int = 0
    cache_ttl_s: int = 300
    outside: Outside = "flag"
    record_inputs: Recorded = "digest"
    record_outputs: Recorded = "digest"
    retention_days: int = 0
    replicas_min: int = 1
    replicas_max: int = 1
    unit_header: str = ""
    unit_field: str = ""
    rules: str = ""


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """A model's policy as somebody set it, who, why, and when (microseconds since 1970)."""

    model: str
    policy: ServingPolicy
    actor: str
    reason: str
    set_us: int


NAMES = tuple(field.name for field in fields(ServingPolicy))


def changed(policy: ServingPolicy, values: Mapping[str, object]) -> ServingPolicy:
    """The policy with some fields set anew; numbers may come as text, as a person types them.

    >>> changed(ServingPolicy(), {"batch_latency_ms": "20"}).batch_latency_ms
    20

    Raises:
        InvalidInput: a name is none of a policy's fields, or a value is not one that it takes;
            every fault is named.
    """
    faults: list[Fault] = []
    known = asdict(policy)
    for name, value in values.items():
        if name in CHOICES:
            if value not in CHOICES[name]:
                faults.append(Fault(name, f"is one of {', '.join(CHOICES[name])}, not {value!r}"))
            known[name] = value
        elif name in RANGES:
            known[name] = _whole(name, value, faults)
        elif name in TEXTS:
            known[name] = _text(name, value, faults)
        else:
            faults.append(Fault(name, f"is no field of a policy; these are {', '.join(NAMES)}"))
    if not faults and known["replicas_min"] > known["replicas_max"]:
        faults.append(Fault("replicas_max", f"is below replicas_min, {known['replicas_min']}"))
    if faults:
        raise InvalidInput("The serving policy is not usable.", tuple(faults))
    return ServingPolicy(**known)


def _whole(name: str, value: object, faults: list[Fault]) -> Any:
    least, most = RANGES[name]
    text = str(value)
    if type(value) is not bool and text.isascii() and text.isdigit() and len(text) < 19:
        number = int(text)
        if least <= number <= most:
            return number
    faults.append(Fault(name, f"is a whole number from {least} to {most}, not {value!r}"))
    return least


def _text(name: str, value: object, faults: list[Fault]) -> str:
    write, check = TEXTS[name]
    if not isinstance(value, str):
        faults.append(Fault(name, f"is a text, not {value!r}"))
        return ""
    wrong = check(value) if value else []
    faults += [Fault(name, why) for why in wrong]
    return "" if wrong else write(value)
