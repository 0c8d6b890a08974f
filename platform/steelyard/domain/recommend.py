"""Which variant to serve for so many requests a day, or which to make. Pure and exact.

A version is considered when it passes its model's gates and what is asked now. Of those, the one
that costs least over the horizon is named. What making a registered version cost is spent
whatever is chosen; a variant that is yet to be made has to earn its making. What such a variant
will be is predicted from measurements of the same kind on other parents, and from nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.gates import Finding, GatePolicy, passed
from steelyard.domain.prospect import Basis, Kind, Prospect, prospect
from steelyard.domain.request_cost import RequestCost

WORTH_TRYING = ("int8_static", "int8_dynamic", "int4_weight_only", "pruned_structured",
                "pruned_structured+int8_static", "distilled")  # fmt: skip
"""Kinds that can take traffic and cost less on some hardware, the quickest to make first."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is wanted: ``latency_class_ms`` bounds p95 at batch 1, ``max_loss`` is in points."""

    requests_per_day: int
    latency_class_ms: Fraction
    max_loss: Fraction
    horizon_days: int = 90

    @property
    def requests(self) -> int:
        """Those of the whole horizon."""
        return self.requests_per_day * self.horizon_days

    @property
    def loss_share(self) -> float:
        """``max_loss`` as a share of the labels, as gates have it."""
        return float(self.max_loss / 100)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A registered version before what is asked.

    ``time`` is its device time a row as a multiple of the baseline's. ``why`` says what keeps it
    out whatever is asked: no evidence, or a record that was changed.
    """

    version: int
    variant: str
    findings: tuple[Finding, ...]
    cost: RequestCost
    time: Fraction | None = None
    why: str = ""

    @property
    def passes(self) -> bool:
        """Whether it was measured, and every gate was passed."""
        return not self.why and passed(self.findings)


@dataclass(frozen=True, slots=True)
class Total:
    """A registered version over the horizon, in nano-USD; None where the cost is unknown."""

    candidate: Candidate
    value: Fraction | None
    low: Fraction | None = None
    high: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The answer with everything it rests on.

    ``serve`` is the version to serve, None when none passes; ``make`` the kind to make, None when
    nothing speaks for one.
    """

    ask: Ask
    totals: tuple[Total, ...]
    prospects: tuple[Prospect, ...]
    serve: int | None
    make: str | None

    @property
    def best(self) -> Total | None:
        """The total of the version to serve."""
        return next((t for t in self.totals if t.candidate.version == self.serve), None)


def check_ask(ask: Ask) -> None:
    """Refuse what cannot be meant.

    Raises:
        InvalidInput: no requests, no days, a latency not above 0, a loss outside of 0 to 50 points.
    """
    faults = [
        Fault(option, f"{what}, found {float(found):g}")
        for option, what, found, good in (
            ("--requests-per-day", "is above 0", ask.requests_per_day, ask.requests_per_day > 0),
            ("--latency-class", "is above 0 ms", ask.latency_class_ms, ask.latency_class_ms > 0),
            ("--max-loss", "is from 0 to 50 points", ask.max_loss, 0 <= ask.max_loss <= 50),
            ("--horizon-days", "is above 0", ask.horizon_days, ask.horizon_days > 0),
        )
        if not good
    ]  # fmt: skip
    if faults:
        raise InvalidInput("This cannot be asked.", tuple(faults))


def asked(policy: GatePolicy, ask: Ask) -> GatePolicy:
    """A model's gates with what is asked now; where both limit the same, the stricter holds.

    >>> ask = Ask(1, Fraction(100), Fraction("0.5"))
    >>> found = asked(GatePolicy(max_quality_loss=0.03), ask)
    >>> found.max_quality_loss, found.latency_class_ms
    (0.005, 100.0)
    """

    def stricter(kept: float | None, wanted: float) -> float:
        return wanted if kept is None else min(kept, wanted)

    return replace(
        policy,
        max_quality_loss=stricter(policy.max_quality_loss, ask.loss_share),
        latency_class_ms=stricter(policy.latency_class_ms, float(ask.latency_class_ms)),
    )


def recommend(
    candidates: Sequence[Candidate], kinds: Sequence[Kind], ask: Ask, basis: Basis
) -> Recommendation:
    """The cheapest version that passes over the horizon, and the kind whose making would pay.

    ``basis`` is what predictions of kinds start from.
    """
    totals = tuple(_total(one, ask) for one in candidates)
    passing = [t for t in totals if t.candidate.passes]
    best = min(passing, key=_cheapest) if passing else None
    now = best.candidate.cost.value if best else None
    prospects = tuple(
        prospect(kind, basis, now, ask.requests_per_day, ask.requests) for kind in kinds
    )
    chosen = _to_make(prospects, best)
    return Recommendation(
        ask, totals, prospects, best.candidate.version if best else None,
        chosen.kind.name if chosen else None,
    )  # fmt: skip


def _total(one: Candidate, ask: Ask) -> Total:
    def over(nano: Fraction | None) -> Fraction | None:
        return None if nano is None else nano * ask.requests

    return Total(one, over(one.cost.value), over(one.cost.low), over(one.cost.high))


def _cheapest(total: Total) -> tuple[bool, Fraction, bool, Fraction, int]:
    """By money; without a price by the device time that it would be charged for."""
    time, money = total.candidate.time, total.value
    return (money is None, money or Fraction(0), time is None, time or Fraction(0),
            total.candidate.version)  # fmt: skip


def _to_make(prospects: Sequence[Prospect], best: Total | None) -> Prospect | None:
    """With a version to serve: what comes out cheaper, its making paid. Else what may pass."""
    possible = [p for p in prospects if p.passes is not False]
    if best is None:
        return min(possible, key=lambda p: (p.passes is None, not p.kind.precedents, *_dearness(p)),
                   default=None)  # fmt: skip
    cheaper = [p for p in possible if p.verdict != "never" and p.total is not None
               and best.value is not None and p.total < best.value]  # fmt: skip
    return min(cheaper, key=_dearness, default=None)


def _dearness(prospect: Prospect) -> tuple[bool, Fraction]:
    return prospect.total is None, prospect.total or Fraction(0)
