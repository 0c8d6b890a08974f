"""Declaring prices and coefficients, and showing what was known when.

Nothing is ever changed: a correction is a row that is recorded later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from steelyard.domain import catalog_file, catalog_rows
from steelyard.domain.catalog_rows import Declaration
from steelyard.domain.cost import price_at
from steelyard.domain.rate_book import RateBook, check_region

if TYPE_CHECKING:
    from steelyard.adapters.sql.catalog import CatalogStore
    from steelyard.ports.clock import Clock

EVERYTHING = 2**63 - 1
"""As of then all rows are known."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What became of declarations.

    ``known`` were there before. ``superseded`` names those of them that no longer hold, because
    a row for the same from the same moment was recorded later: declaring them again brings
    nothing back. ``past_from_us`` is the earliest past moment from which a new row holds; hours
    that were charged since then keep their value until they are valued anew.
    """

    added: int
    known: int
    superseded: tuple[str, ...]
    past_from_us: int | None


class Catalogs:
    """The use cases of the price book and the table of coefficients."""

    def __init__(self, store: "CatalogStore", clock: "Clock") -> None:
        self._store = store
        self._clock = clock

    def import_prices(self, text: str, name: str) -> Declared:
        """Declare every price of a file, or none.

        Raises:
            InvalidInput: the file ``name`` has faults; they say where.
            Conflict: the clock is behind what was recorded.
        """
        return self._declare(catalog_file.prices(text, name))

    def import_coefficients(self, text: str, name: str) -> Declared:
        """Declare every coefficient of a file, or none; raises as ``import_prices`` does."""
        return self._declare(catalog_file.coefficients(text, name))

    def add_price(self, cells: Mapping[str, str]) -> Declared:
        """Declare one price from the cells that a file's row would have; raises likewise."""
        return self._declare([catalog_rows.price(cells)])

    def add_coefficient(self, cells: Mapping[str, str]) -> Declared:
        """Declare one coefficient from the cells that a file's row would have."""
        return self._declare([catalog_rows.coefficient(cells)])

    def prices(self, at_us: int, as_of_us: int) -> list[dict[str, Any]]:
        """Every price known at ``as_of_us``; ``in_force`` marks those that hold at ``at_us``."""
        book = self._store.rate_book(as_of_us)
        rows = [p for p in self._store.prices() if p.recorded_us <= as_of_us]
        rows.sort(key=lambda p: (p.sku, p.valid_from_us, p.recorded_us, p.price_id))
        return [
            {**asdict(p), "in_force": price_at(book.prices(p.sku), p.sku, at_us, as_of_us) == p}
            for p in rows
        ]

    def coefficients(self, at_us: int, as_of_us: int) -> list[dict[str, Any]]:
        """Every coefficient known at ``as_of_us``, marked in the same way."""
        book = self._store.rate_book(as_of_us)
        rows = [r for r in self._store.coefficients() if r["recorded_us"] <= as_of_us]
        rows.sort(key=lambda r: (r["kind"], r["key"], r["valid_from_us"], r["recorded_us"]))
        return [
            {**r, "in_force": _in_force(book, r["kind"], r["key"], at_us) == r["coef_id"]}
            for r in rows
        ]

    def check_region(self, region: str) -> None:
        """Refuse a region without grid intensity.

        Raises:
            InvalidInput: with the regions whose names are near.
        """
        now_us = self._clock.now_us()
        check_region(self._store.rate_book(now_us), region, now_us)

    def now_us(self) -> int:
        """The present moment, to look up at."""
        return self._clock.now_us()

    def _declare(self, rows: Sequence[Declaration]) -> Declared:
        now_us = self._clock.now_us()
        added = self._store.declare(rows, now_us)
        new = [row for row in rows if row.row_id in added]
        past = [row.valid_from_us for row in new if row.valid_from_us < now_us]
        old = [row for row in rows if row.row_id not in added]
        return Declared(len(new), len(old), self._superseded(old), min(past, default=None))

    def _superseded(self, rows: Sequence[Declaration]) -> tuple[str, ...]:
        """Those of the rows that a later one for the same moment has replaced."""
        if not rows:
            return ()
        book = self._store.rate_book(EVERYTHING)
        return tuple(" ".join(row.place) for row in rows if _holds(book, row) != row.row_id)


def _in_force(book: RateBook, kind: str, key: str, at_us: int) -> str | None:
    found = book.zone(key, at_us) if kind == "grid_zone" else book.coefficient(kind, key, at_us)
    return found.coef_id if found else None


def _holds(book: RateBook, row: Declaration) -> str | None:
    """The id of the row that holds where and from when this one was to hold."""
    if isinstance(row, catalog_rows.CoefficientDeclaration):
        return _in_force(book, row.kind, row.key, row.valid_from_us)
    price = price_at(book.prices(row.sku), row.sku, row.valid_from_us, book.as_of_us)
    return price.price_id if price else None
