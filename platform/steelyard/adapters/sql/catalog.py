"""Prices, coefficients and known versions: what the ledger needs besides the windows."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import Any

from sqlalchemy import Engine, func, select

from steelyard.adapters.sql import projections
from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.insert import insert_new
from steelyard.adapters.sql.tables import ledger, measured, models, rates
from steelyard.domain import catalog_file
from steelyard.domain.catalog_rows import CoefficientDeclaration, Declaration, PriceDeclaration
from steelyard.domain.cost import Price
from steelyard.domain.errors import Conflict
from steelyard.domain.model_version import ModelVersion
from steelyard.domain.quantities import SECOND_US
from steelyard.domain.rate_book import CoefficientRow, RateBook, ZoneRow

CLOCK_STEP_US = 60 * SECOND_US
SHIPPED_COEFFICIENTS = ("devices.csv", "embodied.csv", "grids.csv", "facilities.csv", "zones.csv")
"""Tables of coefficients beside ``prices.csv``, in ``coefficient_tables``."""


class CatalogStore:
    """Append-only rows with two clocks: from when they hold, and since when we know them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def load_shipped(self, now_us: int) -> int:
        """Take in those rows of the shipped tables that are not there yet; how many there were.

        Reads only, when all are there: every start may ask.
        """
        shipped: list[Declaration] = [*shipped_prices(), *shipped_coefficients()]
        known = self.known({row.row_id for row in shipped})
        new = [row for row in shipped if row.row_id not in known]
        return len(self.declare(new, now_us)) if new else 0

    def known(self, row_ids: Collection[str]) -> set[str]:
        """Those of the ids that are rows already."""
        with reading(self._engine) as connection:
            return {
                row_id
                for column in (rates.price.c.price_id, rates.coefficient.c.coef_id)
                for row_id in connection.scalars(select(column).where(column.in_(row_ids)))
            }

    def declare(self, rows: Sequence[Declaration], now_us: int) -> set[str]:
        """Add all rows or none; the ids of those that were not there yet.

        All rows of a table get the same ``recorded_us``, later than any before it, so that a clock
        that stands or steps back a little makes no tie and changes nothing that was known earlier.

        Raises:
            Conflict: the clock is more than a minute behind a row that is there.
        """
        added: set[str] = set()
        with writing(self._engine) as connection:
            for table, key, sort in (
                (rates.price, "price_id", PriceDeclaration),
                (rates.coefficient, "coef_id", CoefficientDeclaration),
            ):
                values = [{key: row.row_id, **asdict(row)} for row in rows if isinstance(row, sort)]
                if values:
                    last = connection.scalar(select(func.max(table.c.recorded_us)))
                    recorded = {"recorded_us": _after(last, now_us)}
                    values = [value | recorded for value in values]
                added |= {str(row[0]) for row in insert_new(connection, table, values, (key,))}
        return added

    def prices(self) -> list[Price]:
        """The whole price book, in an order that is the same everywhere."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(rates.price)).mappings().all()
        return sorted((Price(**row) for row in rows), key=lambda p: p.price_id)

    def coefficients(self) -> list[dict[str, Any]]:
        """Every coefficient and zone, as stored."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(rates.coefficient)).mappings()
            return sorted((dict(row) for row in rows), key=lambda r: str(r["coef_id"]))

    def rate_book(self, as_of_us: int) -> RateBook:
        """Everything that was known at a moment, to look up from."""
        return book_of(self.prices(), self.coefficients(), as_of_us)

    def cited(self, coef_ids: Sequence[str]) -> list[dict[str, Any]]:
        """The full rows of coefficients, for a report's footnotes."""
        with reading(self._engine) as connection:
            rows = connection.execute(
                select(rates.coefficient).where(rates.coefficient.c.coef_id.in_(coef_ids))
            )
            return [dict(row) for row in rows.mappings()]

    def record_version(self, version: ModelVersion) -> None:
        """Copy what reports need of a registered version; repeating it changes nothing."""
        row = {c.name: asdict(version).get(c.name) for c in models.model_version.columns}
        row["flops_forward"] = version.flops.forward if version.flops else None
        with writing(self._engine) as connection:
            insert_new(connection, models.model_version, [row], ("model", "version"))

    def versions(self, model: str | None = None) -> list[dict[str, Any]]:
        """Known versions, oldest first."""
        query = select(models.model_version).order_by(
            models.model_version.c.model, models.model_version.c.version
        )
        if model is not None:
            query = query.where(models.model_version.c.model == model)
        with reading(self._engine) as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def attempts(self, model: str) -> list[dict[str, Any]]:
        """Every run attempt of a model, with its outcome."""
        a = measured.run_attempt
        with reading(self._engine) as connection:
            rows = connection.execute(
                select(a).where(a.c.model == model).order_by(a.c.started_us, a.c.attempt)
            )
            return [dict(row) for row in rows.mappings()]

    def unattributed_runs(self) -> list[tuple[str, str, int]]:
        """Runs with a balance of their own that have a version now: (run, model, version)."""
        a, v, b = ledger.account, models.model_version, projections.balance
        query = (
            select(v.c.run_id, v.c.model, v.c.version)
            .distinct()
            .join(a, (a.c.run_id == v.c.run_id) & a.c.role.in_(("consumer", "idle")))
            .join(b, b.c.account_id == a.c.account_id)
            .where(b.c.amount != 0)
        )
        with reading(self._engine) as connection:
            return [(row.run_id, row.model, row.version) for row in connection.execute(query)]

    def failed_runs(self) -> list[tuple[str, str]]:
        """Runs with a balance of their own that ended without success: (run, model)."""
        a, b, r = ledger.account, projections.balance, measured.run_attempt
        succeeded = select(r.c.run_id).where(r.c.outcome.in_(("ok", "running")))
        query = (
            select(r.c.run_id, r.c.model)
            .distinct()
            .join(a, (a.c.run_id == r.c.run_id) & (a.c.role.in_(("consumer", "idle"))))
            .join(b, b.c.account_id == a.c.account_id)
            .where(r.c.run_id.not_in(succeeded), b.c.amount != 0)
        )
        with reading(self._engine) as connection:
            return [(row.run_id, row.model) for row in connection.execute(query)]


def _after(last_us: int | None, now_us: int) -> int:
    """A moment of recording that follows all before it."""
    if last_us is None or last_us < now_us:
        return now_us
    if last_us - now_us > CLOCK_STEP_US:
        raise Conflict(
            f"This machine's clock is {(last_us - now_us) // SECOND_US} s behind the newest row of "
            "the catalog.",
            "Set the clock: a row recorded now would change what was known earlier.",
        )
    return last_us + 1


def book_of(
    prices: Iterable[Price], coefficients: Iterable[Mapping[str, Any]], as_of_us: int
) -> RateBook:
    """A rate book of stored rows."""
    figures, zones = [], []
    for row in coefficients:
        clocks = (row["valid_from_us"], row["recorded_us"])
        if row["kind"] == "grid_zone":
            zones.append(ZoneRow(row["coef_id"], row["key"], row["value"], *clocks))
        else:
            value = Fraction(row["value"])
            figures.append(CoefficientRow(row["coef_id"], row["kind"], row["key"], value, *clocks))
    return RateBook(prices, figures, as_of_us, zones)


@cache
def shipped_prices() -> list[PriceDeclaration]:
    """The prices that come with this version."""
    return catalog_file.prices(_shipped("prices.csv"), "prices.csv", earliest_us=0)


@cache
def shipped_coefficients() -> list[CoefficientDeclaration]:
    """The coefficients and zones that come with this version."""
    return [
        row
        for name in SHIPPED_COEFFICIENTS
        for row in catalog_file.coefficients(_shipped(name), name, earliest_us=0)
    ]


def _shipped(name: str) -> str:
    return (files("steelyard.adapters") / "coefficient_tables" / name).read_text("utf-8")
