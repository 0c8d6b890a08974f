"""Software Carbon Intensity: carbon per functional unit, and its two parts for AI.

SCI = (O + M) / R, ISO/IEC 21031:2024: operational plus embodied emissions per functional unit;
no offsets, no market instruments. SCI for AI (Green Software Foundation, draft) reports two
scores that are never added: the provider's, for making a model, and the consumer's, for
running it. Section 9.1 of that draft is off by 1000 in both of its examples (scenario
``sci-for-ai-language-model``).
"""

from dataclasses import dataclass
from fractions import Fraction

from steelyard.domain.errors import InvalidInput
from steelyard.domain.quantities import Carbon


@dataclass(frozen=True, slots=True)
class Sci:
    """A score: ``operational`` and ``embodied`` carbon over ``count`` of one ``functional_unit``.

    ``operational`` is energy × location-based grid intensity.
    """

    operational: Carbon
    embodied: Carbon
    count: int
    functional_unit: str

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InvalidInput(
                f"A score needs at least one {self.functional_unit}, found {self.count}.",
                hint="Without a functional unit the carbon intensity is unknown.",
            )

    def grams_per(self, units: int = 1) -> Fraction:
        """Grams of CO2e per ``units`` functional units, exact.

        >>> week = Sci(Carbon(5_000 * 10**9), Carbon(1_500 * 10**9), 50 * 10**9, "token")
        >>> week.grams_per(1_000_000)
        Fraction(130, 1)
        """
        return (self.operational + self.embodied).grams * units / self.count


@dataclass(frozen=True, slots=True)
class SciForAi:
    """Both scores of an AI system. None: not known, so not reported.

    ``provider`` covers data, training, evaluation and compression, per FLOP, parameter or
    training token; ``consumer`` covers serving, per request, item or token.
    """

    provider: Sci | None
    consumer: Sci | None
