"""Prices and coefficients with two clocks: from when they hold, and since when we know them."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from typing import TypeVar

from steelyard.domain.cost import Price
from steelyard.domain.energy import LoadModel
from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.metering import Resource
from steelyard.domain.posting import Coefficient, Valuation


@dataclass(frozen=True, slots=True)
class CoefficientRow:
    """A cited constant in force from ``valid_from_us``, known since ``recorded_us``."""

    coef_id: str
    kind: str
    key: str
    value: Fraction
    valid_from_us: int
    recorded_us: int


@dataclass(frozen=True, slots=True)
class ZoneRow:
    """The grid region ``zone`` that a cloud region lies in, with the same two clocks."""

    coef_id: str
    key: str
    zone: str
    valid_from_us: int
    recorded_us: int


Row = TypeVar("Row", CoefficientRow, ZoneRow)
DEFAULT = "default"
"""The key that an operator may declare for whatever has no row of its own."""


class RateBook:
    """What turns device time into money, energy and carbon, as it is known at one moment.

    Of the rows in force the one that became valid last wins; of several, the one recorded last;
    of those, the one with the least id. So an answer depends on the moment and on ``as_of_us``
    only, not on the order of the rows or on what was recorded later.
    """

    def __init__(
        self,
        prices: Iterable[Price],
        coefficients: Iterable[CoefficientRow],
        as_of_us: int,
        zones: Iterable[ZoneRow] = (),
    ) -> None:
        self.as_of_us = as_of_us
        self._prices: dict[str, list[Price]] = {}
        for price in sorted(prices, key=lambda p: p.price_id):
            if price.recorded_us <= as_of_us:
                self._prices.setdefault(price.sku, []).append(price)
        self._rows: dict[tuple[str, str], list[CoefficientRow]] = {}
        for row in sorted(coefficients, key=lambda r: r.coef_id):
            if row.recorded_us <= as_of_us:
                self._rows.setdefault((row.kind, row.key), []).append(row)
        self._zones: dict[str, list[ZoneRow]] = {}
        moments = {row.valid_from_us for rows in self._rows.values() for row in rows}
        for zone in sorted(zones, key=lambda z: z.coef_id):
            if zone.recorded_us <= as_of_us:
                self._zones.setdefault(zone.key, []).append(zone)
                moments.add(zone.valid_from_us)
        self._changes = sorted(moments)
        self._valuations: dict[tuple[str, str | None, str, int], Valuation] = {}

    def prices(self, sku: str) -> list[Price]:
        """The rows of one SKU."""
        return self._prices.get(sku, [])

    def coefficient(self, kind: str, key: str | None, at_us: int) -> Coefficient | None:
        """The constant in force at a moment; None when nobody declared one."""
        row = _newest(self._rows.get((kind, key or ""), ()), at_us)
        return Coefficient(row.coef_id, row.value) if row else None

    def zone(self, region: str, at_us: int) -> ZoneRow | None:
        """In which grid region a cloud region lies; None when nobody said."""
        return _newest(self._zones.get(region, ()), at_us)

    def intensity(self, region: str | None, at_us: int) -> Coefficient | None:
        """Grams per kWh of a region: its own, else its zone's, else what an operator declared.

        None when there is neither. A world average is never assumed: whoever wants one declares
        it under the key ``default``.
        """
        zone = self.zone(region, at_us) if region else None
        return (
            self.coefficient("grid_ci", region, at_us)
            or (self.coefficient("grid_ci", zone.zone, at_us) if zone else None)
            or self.coefficient("grid_ci", DEFAULT, at_us)
        )

    def regions(self, at_us: int) -> list[str]:
        """Every region with a known intensity, sorted."""
        named = {key for kind, key in self._rows if kind == "grid_ci"} | set(self._zones)
        return sorted(r for r in named - {DEFAULT} if self.intensity(r, at_us))

    def load_model(self, device_model: str, at_us: int) -> LoadModel | None:
        """Declared power of a device, idle and at full load; None unless both are known."""
        idle = self.coefficient("device_idle_w", device_model, at_us)
        peak = self.coefficient("device_max_w", device_model, at_us)
        if idle is None or peak is None:
            return None
        return LoadModel(idle.value, peak.value, (idle.coef_id, peak.coef_id))

    def valuation(self, resource: Resource, at_us: int) -> Valuation:
        """Everything that values a resource's windows of one moment.

        Between two changes it is the same, so it is looked up once.
        """
        since = bisect_right(self._changes, at_us)
        key = (resource.device_model, resource.region, resource.price_sku, since)
        found = self._valuations.get(key)
        if found is None:
            found = self._valuations[key] = self._valuation(resource, at_us)
        return found

    def _valuation(self, resource: Resource, at_us: int) -> Valuation:
        load = self.load_model(resource.device_model, at_us)
        life = self.coefficient("lifespan_h", resource.device_model, at_us)
        pue = self.coefficient("pue", resource.region, at_us)
        return Valuation(
            self.prices(resource.price_sku), load,
            intensity=self.intensity(resource.region, at_us),
            pue=pue or self.coefficient("pue", DEFAULT, at_us),
            embodied_kg=self.coefficient("embodied_kg", resource.device_model, at_us),
            lifespan_h=life or self.coefficient("lifespan_h", DEFAULT, at_us),
            as_of_us=self.as_of_us,
        )  # fmt: skip


def _newest(rows: Iterable[Row], at_us: int) -> Row | None:
    known = (row for row in rows if row.valid_from_us <= at_us)
    return max(known, key=lambda r: (r.valid_from_us, r.recorded_us), default=None)


def check_region(book: RateBook, region: str, at_us: int) -> None:
    """Refuse a region whose carbon nobody could tell. No region at all is a choice: unknown.

    Raises:
        InvalidInput: the region is set and there is no intensity for it.
    """
    if not region or book.intensity(region, at_us) is not None:
        return
    known = book.regions(at_us)
    near = [r for r in known if region.lower() in r.lower()]
    near = near or get_close_matches(region, known, n=3, cutoff=0.5)
    raise InvalidInput(
        f"The region {region!r} has no grid intensity.",
        (Fault("region", f"found {region!r}" + (f"; near it: {', '.join(near)}" if near else "")),),
        f"Set region to one that steelyard ledger coefficients list --kind grid_ci shows, declare "
        f"its intensity with steelyard ledger coefficients add --kind grid_ci --key {region}, or "
        f'leave its carbon unknown with unknown_region = "null".',
    )
