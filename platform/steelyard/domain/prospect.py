"""What a variant that is yet to be made would be, from others of its kind. Pure and exact.

Predictions rest on variants of the same kind that were measured beside other parents: how much
of their parent's time they took, what they lost, what making them cost. A published rule of thumb
is none: of a kind that was never measured here everything is unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median
from typing import Literal

from steelyard.domain.allocation import round_half_even
from steelyard.domain.break_even import PayBackEstimate, pay_back_estimate
from steelyard.domain.evidence import Evidence
from steelyard.domain.evidence_intervals import paired_loss
from steelyard.domain.gates import GatePolicy
from steelyard.domain.pareto import AXES, measured
from steelyard.domain.request_cost import Anchor, relative
from steelyard.domain.unit_economics import Estimate

LEAST_PRECEDENTS = 3
"""From fewer measurements of a kind no range is concluded: its pay-back is not proven."""
Verdict = Literal["pays", "not_proven", "never", "unknown"]
Range = tuple[Fraction, Fraction, Fraction]
"""The least, the median and the greatest."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What predictions start from: a request's cost, the baseline's p95, and what is asked."""

    anchor: Anchor | None
    p95_ms: Fraction | None
    policy: GatePolicy


@dataclass(frozen=True, slots=True)
class Precedent:
    """One variant of the kind that was measured beside another parent.

    ``time`` and ``p95`` are multiples of that parent's, ``loss`` the share of labels lost at the
    worse end, ``making_nano`` what making it cost in nano-USD. None: not known.
    """

    name: str
    time: Fraction | None
    p95: Fraction | None
    loss: float | None
    making_nano: int | None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of variant that the baseline has none of, and what is known of it."""

    name: str
    precedents: tuple[Precedent, ...] = ()


@dataclass(frozen=True, slots=True)
class Prospect:
    """A kind that could be made: what is predicted of it, None where nothing can be.

    ``making_nano`` and ``request_nano`` are nano-USD. ``passes`` says whether every precedent
    would pass here. ``total`` is its making and its requests over the horizon, ``worth_nano``
    what making it may cost to be paid back within it.
    """

    kind: Kind
    making_nano: Range | None
    request_nano: Range | None
    p95_ms: Fraction | None
    loss: float | None
    passes: bool | None
    total: Fraction | None
    worth_nano: Fraction | None
    pay_back: PayBackEstimate
    verdict: Verdict


def precedent(name: str, evidence: Evidence, making_nano: int | None) -> Precedent:
    """What a measured variant says of its kind."""
    p95, theirs = (measured(AXES["latency"], evidence, side) for side in ("own", "parent"))
    lost, won = evidence.parent_only_right, evidence.own_only_right
    loss = None
    if lost is not None and won is not None and evidence.labels:
        loss = paired_loss(lost, won, evidence.labels).high
    slower = p95 / theirs if p95 and theirs else None
    return Precedent(name, relative(evidence, None), slower, loss, making_nano)


def prospect(
    kind: Kind, basis: Basis, now: Fraction | None, requests_per_day: int, requests: int
) -> Prospect:
    """What a kind would be beside a version whose requests cost ``now`` nano-USD.

    ``requests`` are those of the whole horizon.
    """
    seen, anchor = kind.precedents, basis.anchor
    times = [p.time for p in seen if p.time is not None]
    making = _range([Fraction(p.making_nano) for p in seen if p.making_nano is not None])
    request = _range([anchor.at(time) for time in times]) if anchor else None
    slower = [p.p95 for p in seen if p.p95 is not None]
    p95_ms = basis.p95_ms * max(slower) if basis.p95_ms is not None and slower else None
    losses = [p.loss for p in seen if p.loss is not None]
    loss = max(losses) if losses and len(losses) == len(seen) else None
    pay_back = _pay_back(making, request, now, requests_per_day, len(times))
    return Prospect(
        kind, making, request, p95_ms, loss, _would_pass(p95_ms, loss, basis.policy),
        making[1] + request[1] * requests if making and request else None,
        (now - request[1]) * requests if request and now is not None else None,
        pay_back, _verdict(pay_back, request, now),
    )  # fmt: skip


def _would_pass(p95_ms: Fraction | None, loss: float | None, policy: GatePolicy) -> bool | None:
    """Of the two gates that are asked about; the others are judged when it is measured."""
    held = [
        None if found is None else limit is None or found <= limit
        for found, limit in ((p95_ms, policy.latency_class_ms), (loss, policy.max_quality_loss))
    ]
    return False if False in held else None if None in held else True


def _pay_back(
    making: Range | None, request: Range | None, now: Fraction | None, requests_per_day: int,
    measurements: int,
) -> PayBackEstimate:  # fmt: skip
    """An interval only where the kind was measured often enough for one."""
    if making is None or request is None or now is None:
        return PayBackEstimate("unknown")
    low, typical, high = (now - one for one in reversed(request))
    enough = measurements >= LEAST_PRECEDENTS
    saving = Estimate(typical, low if enough else None, high if enough else None, 0)
    return pay_back_estimate(round_half_even(making[1]), saving, Fraction(requests_per_day))


def _verdict(found: PayBackEstimate, request: Range | None, now: Fraction | None) -> Verdict:
    """A kind with too few measurements is not proven to pay; one that saves nothing never does."""
    if found.verdict != "unknown" or request is None or now is None:
        return found.verdict
    return "never" if request[1] >= now else "not_proven"


def _range(values: Sequence[Fraction]) -> Range | None:
    return (min(values), median(values), max(values)) if values else None
