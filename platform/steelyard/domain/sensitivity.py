"""How far energy and carbon move when coefficients stand at the ends that their sources give.

An interval over days does not show that: the watts, the grid and the building are as uncertain on
every day. What a meter read has no watts in it and does not move with them.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from steelyard.domain.energy import MEASURED
from steelyard.domain.ledger import Unit
from steelyard.domain.unit_economics import CoefficientRange, at_coefficients

Limits = tuple[Fraction, Fraction]
UNMOVED: Limits = (Fraction(1), Fraction(1))
MODELLED = "modelled_load"


@dataclass(frozen=True, slots=True)
class Place:
    """The coefficients of one device model in one region; None where nobody declared one.

    ``watts`` are those of the load model: idle and fully loaded.
    """

    watts: tuple[CoefficientRange, CoefficientRange] | None = None
    pue: CoefficientRange | None = None
    grid: CoefficientRange | None = None
    embodied_kg: CoefficientRange | None = None
    lifespan_h: CoefficientRange | None = None


def coefficient_limits(
    value: Fraction, unit: Unit, by_tier: Mapping[str, int], places: Collection[Place]
) -> Limits | None:
    """``value`` with every coefficient at its low and at its high end; None without such ends.

    ``by_tier`` says which methods found how much of it. Where several coefficients, devices or
    regions each carry a part, the range is that of the one that moves most: the parts are not
    known, and this holds for any.

    >>> gpu = CoefficientRange(Fraction(400), Fraction(300), Fraction(440))
    >>> coefficient_limits(Fraction(10), "mJ", {"modelled_load": 1}, [Place((gpu, gpu))])
    (Fraction(15, 2), Fraction(11, 1))
    """
    parts = {tier: amount for tier, amount in by_tier.items() if amount}
    if not sum(parts.values()) or (unit == "mJ" and MODELLED not in parts):
        return None
    low = high = Fraction(0)
    for tier, amount in parts.items():
        found = _factors(unit, tier, places)
        if found is None:
            return None
        low, high = low + amount * found[0], high + amount * found[1]
    total = sum(parts.values())
    return value * low / total, value * high / total


def _factors(unit: Unit, tier: str, places: Collection[Place]) -> Limits | None:
    """What one ledger unit, found by one method, becomes at either end."""
    if unit == "ugCO2e_emb":
        return _widest(places, _embodied)
    if unit not in ("mJ", "ugCO2e_loc") or tier not in {MODELLED, *MEASURED}:
        return None
    watts = tier == MODELLED
    if unit == "mJ":
        return _widest(places, _energy) if watts else UNMOVED
    return _widest(places, _modelled_carbon if watts else _metered_carbon)


Rule = Callable[[Place], "list[CoefficientRange] | None"]


def _energy(place: Place) -> list[CoefficientRange] | None:
    return [_either(*place.watts)] if place.watts else None


def _modelled_carbon(place: Place) -> list[CoefficientRange] | None:
    energy, rest = _energy(place), _metered_carbon(place)
    return None if energy is None or rest is None else energy + rest


def _metered_carbon(place: Place) -> list[CoefficientRange] | None:
    if place.grid is None:
        return None
    return [place.grid, place.pue] if place.pue else [place.grid]


def _embodied(place: Place) -> list[CoefficientRange] | None:
    life = place.lifespan_h
    if place.embodied_kg is None or life is None:
        return None
    shortest = CoefficientRange(1 / life.value, *(1 / end if end else None
                                                  for end in (life.high, life.low)))  # fmt: skip
    return [place.embodied_kg, shortest]


def _widest(places: Iterable[Place], rule: Rule) -> Limits | None:
    """Over the places that the rule finds something in: nothing was posted for the others."""
    found = [at_coefficients(Fraction(1), ranges) for ranges in map(rule, places) if ranges]
    known = [limits for limits in found if limits is not None]
    if not known or len(known) < len(found):
        return None
    return min(low for low, _ in known), max(high for _, high in known)


def _either(*ranges: CoefficientRange) -> CoefficientRange:
    """For a sum of parts that each follow one of the coefficients."""
    found = [at_coefficients(Fraction(1), [one]) for one in ranges]
    if any(limits is None for limits in found):
        return CoefficientRange(Fraction(1))
    known = [limits for limits in found if limits is not None]
    return CoefficientRange(Fraction(1), min(k[0] for k in known), max(k[1] for k in known))
