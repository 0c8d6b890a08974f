"""Gates: what a version must show before it may take traffic. Pure.

A gate passes on proof alone. What was not measured, was measured on other hardware, or on too few
labels to tell is ``unknown``, and unknown does not pass.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Literal

from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.evidence import Evidence, other_hardware
from steelyard.domain.evidence_intervals import paired_loss

GateVerdict = Literal["pass", "fail", "unknown"]
LARGEST_LOSS = 0.5
"""A bound on lost quality above this asks nothing worth the name."""


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """What is asked of a model's versions; None asks nothing.

    ``max_quality_loss`` is a share of the labels (0.005: half a point) and must hold at the worse
    end of the paired 95 % interval. Ratios are to the parent, measured in the same run: file
    bytes, p50 at batch 1, energy of one row at batch 1. ``latency_class_ms`` bounds p95 at batch 1
    and ``min_accuracy`` the lower end of accuracy's interval, with or without a parent.
    """

    max_quality_loss: float | None = None
    max_size_ratio: float | None = None
    max_latency_ratio: float | None = None
    max_energy_ratio: float | None = None
    latency_class_ms: float | None = None
    min_agreement: float | None = None
    min_accuracy: float | None = None


DEFAULT_POLICY = GatePolicy(max_quality_loss=0.03)
"""Of a model for which nobody set one. Three points: what 360 held-out rows can prove of a variant
that differs on a handful of them."""


@dataclass(frozen=True, slots=True)
class PolicyRecord:
    """A model's policy, who set it, why and when (µs UTC)."""

    model: str
    policy: GatePolicy
    actor: str
    reason: str
    recorded_us: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One gate's verdict: what was ``found`` (None: not known) against which ``limit``."""

    gate: str
    verdict: GateVerdict
    found: float | None
    limit: float
    why: str


def judge(
    policy: GatePolicy,
    evidence: Evidence | None,
    here: Mapping[str, str] | None = None,
    has_parent: bool | None = None,
) -> tuple[Finding, ...]:
    """A finding for every gate that the policy asks about, and always for ``chance``.

    ``here`` is the hardware that will serve; figures of speed and energy from other hardware are
    stale. None takes them as they are: just measured here. ``has_parent`` says whether there is a
    parent to compare with; None: there is when the evidence has one. Without one, the gates
    about the parent do not apply.
    """
    if evidence is None:
        return tuple(_unmeasured(policy, has_parent is not False))
    parent = evidence.compared if has_parent is None else has_parent
    found = [_chance(evidence), *_accuracy(policy, evidence)]
    if parent:
        found += [*_quality(policy, evidence), *_agreement(policy, evidence)]
        found += _size(policy, evidence)
    stale = other_hardware(evidence.hardware, here) if here is not None else ()
    speed = [*_latency_class(policy, evidence)]
    if parent:
        speed += [*_latency(policy, evidence), *_energy(policy, evidence)]
    return tuple(found + [_stale(one, stale) if stale else one for one in speed])


def passed(findings: Iterable[Finding]) -> bool:
    """Whether every gate was passed."""
    return all(finding.verdict == "pass" for finding in findings)


def check_policy(policy: GatePolicy) -> None:
    """Refuse a policy that cannot be meant.

    Raises:
        InvalidInput: a loss outside of 0 to 0.5, a share outside of 0 to 1, a bound not above 0.
    """
    faults = []
    for field in fields(GatePolicy):
        value = getattr(policy, field.name)
        if value is None:
            continue
        top = {"max_quality_loss": LARGEST_LOSS, "min_agreement": 1.0, "min_accuracy": 1.0}
        if field.name in top and not 0 <= value <= top[field.name]:
            faults.append(Fault(field.name, f"is from 0 to {top[field.name]:g}, found {value:g}"))
        elif field.name not in top and not 0 < value < float("inf"):
            faults.append(Fault(field.name, f"is above 0, found {value:g}"))
    if faults:
        raise InvalidInput("The gates cannot be meant so.", tuple(faults))


def _chance(evidence: Evidence) -> Finding:
    """Not asked by any policy: an answer that has nothing to do with the question is no answer."""
    if evidence.chance is None or evidence.accuracy_low is None or evidence.accuracy_high is None:
        return Finding("chance", "unknown", None, 0.0, "it is not known what guessing would get")
    above = evidence.accuracy_low - evidence.chance
    why = (
        f"accuracy {evidence.accuracy:.4f}, at least {evidence.accuracy_low:.4f}; "
        f"the same answers at random: {evidence.chance:.4f}"
    )
    if above > 0:
        return Finding("chance", "pass", above, 0.0, why)
    verdict: GateVerdict = "fail" if evidence.accuracy <= evidence.chance else "unknown"
    return Finding("chance", verdict, above, 0.0, f"{why}: not told apart from guessing")


def _accuracy(policy: GatePolicy, evidence: Evidence) -> Iterator[Finding]:
    limit = policy.min_accuracy
    if limit is None:
        return
    low, high = evidence.accuracy_low, evidence.accuracy_high
    if low is None or high is None:
        yield Finding("accuracy", "unknown", None, limit, "its interval is not known")
        return
    verdict: GateVerdict = "pass" if low >= limit else "fail" if high < limit else "unknown"
    why = f"accuracy {evidence.accuracy:.4f}, {low:.4f} to {high:.4f}"
    yield Finding("accuracy", verdict, low, limit, why)


def _quality(policy: GatePolicy, evidence: Evidence) -> Iterator[Finding]:
    limit = policy.max_quality_loss
    if limit is None:
        return
    lost, won = evidence.parent_only_right, evidence.own_only_right
    if lost is None or won is None or not evidence.labels:
        why = "it was not compared with its parent label by label"
        yield Finding("quality", "unknown", None, limit, why)
        return
    loss = paired_loss(lost, won, evidence.labels)
    why = (
        f"of {evidence.labels} labels, {lost} only its parent got right and {won} only it; "
        f"loss {loss.low:+.4f} to {loss.high:+.4f}"
    )
    if loss.high <= limit:
        yield Finding("quality", "pass", loss.high, limit, why)
    elif loss.low > limit:
        yield Finding("quality", "fail", loss.high, limit, why)
    else:
        why += ": these labels are too few to prove either"
        yield Finding("quality", "unknown", loss.high, limit, why)


def _agreement(policy: GatePolicy, evidence: Evidence) -> Iterator[Finding]:
    limit, found = policy.min_agreement, evidence.agreement
    if limit is None:
        return
    if found is None:
        yield _not_measured("agreement", limit)
        return
    why = f"{found:.4f} of the first choices are the parent's"
    yield Finding("agreement", "pass" if found >= limit else "fail", found, limit, why)


def _size(policy: GatePolicy, evidence: Evidence) -> Iterator[Finding]:
    yield from _ratio(
        "size", evidence.size_bytes, evidence.parent_size_bytes, policy.max_size_ratio, "bytes"
    )


def _latency(policy: GatePolicy, evidence: Evidence) -> Iterator[Finding]:
    yield from _ratio(
        "latency", evidence.latency_ms_p50, evidence.parent_latency_ms_p50,
        policy.max_latency_ratio, "ms at p50",
    )  # fmt: skip


def _energy(policy: GatePolicy, evidence: Evidence) -> Iterator[Finding]:
    own = evidence.own.energy_mj if evidence.own else None
    parent = evidence.parent.energy_mj if evidence.parent else None
    method = evidence.own.energy_method if evidence.own else None
    unit = f"mJ a row ({method})"
    yield from _ratio("energy", own, parent, policy.max_energy_ratio, unit)


def _latency_class(policy: GatePolicy, evidence: Evidence) -> Iterator[Finding]:
    limit, found = policy.latency_class_ms, evidence.latency_ms_p95
    if limit is not None:
        verdict: GateVerdict = "pass" if found <= limit else "fail"
        yield Finding("latency_class", verdict, found, limit, f"{found:g} ms at p95")


def _ratio(
    gate: str, own: float | None, parent: float | None, limit: float | None, unit: str
) -> Iterator[Finding]:
    if limit is None:
        return
    if own is None or not parent:
        yield _not_measured(gate, limit)
        return
    ratio = own / parent
    why = f"{own:g} {unit}, its parent {parent:g}"
    yield Finding(gate, "pass" if ratio <= limit else "fail", ratio, limit, why)


def _not_measured(gate: str, limit: float) -> Finding:
    return Finding(gate, "unknown", None, limit, "it was not measured")


def _stale(finding: Finding, why: tuple[str, ...]) -> Finding:
    told = f"measured on other hardware ({'; '.join(why)}): measure again"
    return Finding(finding.gate, "unknown", finding.found, finding.limit, told)


def _unmeasured(policy: GatePolicy, has_parent: bool) -> Iterator[Finding]:
    asked = {"accuracy": policy.min_accuracy, "latency_class": policy.latency_class_ms}
    if has_parent:
        asked |= {
            "quality": policy.max_quality_loss, "agreement": policy.min_agreement,
            "size": policy.max_size_ratio, "latency": policy.max_latency_ratio,
            "energy": policy.max_energy_ratio,
        }  # fmt: skip
    yield _not_measured("chance", 0.0)
    for gate, limit in asked.items():
        if limit is not None:
            yield _not_measured(gate, limit)
