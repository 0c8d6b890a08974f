"""Claims about cost, energy and size, checked: what was published against what is right.

A scenario names a calculation, its inputs, and the figures that somebody published. Running it
gives the right figures, and a verdict for each that was published.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from typing import Any, Literal

from steelyard.domain.calculations import CALCULATIONS, Figure
from steelyard.domain.errors import Fault, InvalidInput

Verdict = Literal["agrees", "refuted", "not_published"]

TOLERANCE = Fraction(1, 100)
DIGITS = 9


@dataclass(frozen=True, slots=True)
class Published:
    """A published figure as a range; None is an open end, and a single figure is both ends."""

    low: Fraction | None
    high: Fraction | None

    def __str__(self) -> str:
        if self.low is None:
            return f"at most {shown(self.high)}"
        if self.high is None:
            return f"at least {shown(self.low)}"
        if self.low == self.high:
            return shown(self.low)
        return f"{shown(self.low)} to {shown(self.high)}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A claim and how to check it.

    ``source`` says in general words where it was published; ``because`` why it is wrong.
    ``tolerance`` is the relative difference up to which a published figure agrees: they are
    rounded. ``inputs`` are the named calculation's keyword arguments.
    """

    name: str
    claim: str
    calculation: str
    inputs: Mapping[str, Any]
    published: Mapping[str, Published] = field(default_factory=dict)
    source: str = ""
    because: str = ""
    tolerance: Fraction = TOLERANCE


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure: ``factor`` is the published one over the right one, where they differ."""

    figure: str
    right: Figure
    published: Published | None
    verdict: Verdict
    factor: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scenario with its findings; one refuted figure refutes it."""

    scenario: Scenario
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of the findings; ``not_published`` when there was nothing to compare."""
        verdicts = {finding.verdict for finding in self.findings}
        if "refuted" in verdicts:
            return "refuted"
        return "agrees" if "agrees" in verdicts else "not_published"


def run(scenario: Scenario) -> Outcome:
    """Calculate the right figures and compare what was published.

    Raises:
        InvalidInput: no such calculation, a published figure that it does not give, or inputs
            that it refuses.
    """
    if scenario.calculation not in CALCULATIONS:
        raise InvalidInput(
            f"{scenario.name}: there is no calculation {scenario.calculation!r}.",
            hint=f"There are: {', '.join(sorted(CALCULATIONS))}.",
        )
    try:
        figures = CALCULATIONS[scenario.calculation](**scenario.inputs)
    except ArithmeticError as error:
        raise InvalidInput(f"{scenario.name}: no figure can be calculated: {error}.") from error
    unknown = tuple(
        Fault(f"published.{name}", f"is no figure of {scenario.calculation}")
        for name in scenario.published
        if name not in figures
    )
    if unknown:
        raise InvalidInput(
            f"{scenario.name} compares figures that are not calculated.",
            unknown,
            f"The figures are: {', '.join(figures)}.",
        )
    return Outcome(
        scenario,
        tuple(
            _compare(name, right, scenario.published.get(name), scenario.tolerance)
            for name, right in figures.items()
        ),
    )


def shown(value: Figure) -> str:
    """A figure as text: nine digits at least, and never fewer than stand before the point.

    >>> shown(Fraction(3_650_000)), shown(Fraction(2000, 3)), shown(Fraction(1, 10**7))
    ('3,650,000', '666.666667', '1e-7')
    >>> shown(Fraction(16_920 * 10**18)), shown(None), shown("pays")
    ('1.692e22', '–', 'pays')
    """
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    number = Decimal(value.numerator) / Decimal(value.denominator)
    digits = max(DIGITS, number.adjusted() + 1)
    number = Context(prec=digits, rounding=ROUND_HALF_EVEN).plus(number).normalize()
    if number and not -5 < number.adjusted() < 18:
        return f"{number:e}".replace("e+", "e")
    return f"{number:,f}"


def _compare(name: str, right: Figure, published: Published | None, tolerance: Fraction) -> Finding:
    if published is None:
        return Finding(name, right, None, "not_published")
    if not isinstance(right, Fraction):
        return Finding(name, right, published, "refuted")
    margin = abs(right) * tolerance
    wrong = None
    if published.low is not None and right < published.low - margin:
        wrong = published.low
    if published.high is not None and right > published.high + margin:
        wrong = published.high
    if wrong is None:
        return Finding(name, right, published, "agrees")
    return Finding(name, right, published, "refuted", wrong / right if right else None)
