"""The check of what entries were worked out from: windows, prices, coefficients as they were.

A window is stored with the digest of its content, a batch with the digest of its windows'; the
id of a price or a coefficient is its digest. So a changed, a missing and an added one all show.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Table, func, select

from steelyard.adapters.sql.rows import from_row
from steelyard.adapters.sql.silence import unfounded
from steelyard.adapters.sql.tables import ledger, measured, rates
from steelyard.domain.catalog_rows import CoefficientDeclaration, PriceDeclaration
from steelyard.domain.cost import HOUR_US
from steelyard.domain.facts import content_sha256
from steelyard.domain.hash_chain import Break
from steelyard.domain.ledger import inputs_sha256
from steelyard.domain.metering import SupplyWindow, UsageWindow

SINCE_VERSION = 2
"""Of the charging method: earlier batches did not digest their windows' contents."""


@dataclass(frozen=True, slots=True)
class Charged:
    """A batch that charged windows: its first entry, its inputs, whether it still stands."""

    first_seq: int
    inputs_sha256: str
    method_version: int
    stands: bool


def changed_sources(connection: Connection, batches: Mapping[str, Charged]) -> Iterator[Break]:
    """Every source that is not as it was when it was charged, with an entry that rests on it."""
    yield from _changed_catalog(connection)
    missing = {
        key for key, one in batches.items() if one.stands and one.method_version >= SINCE_VERSION
    }
    for batch_id, found, whole in _charged(connection):
        missing.discard(batch_id)
        batch = batches.get(batch_id)
        if batch is None:
            yield Break(0, f"a window says that it was charged by the batch {batch_id}")
        elif not whole:
            yield Break(batch.first_seq, "a window that it was worked out from was changed")
        elif batch.method_version >= SINCE_VERSION and found != batch.inputs_sha256:
            yield Break(batch.first_seq, "its windows are not those that it was worked out from")
    for key in sorted(missing):
        yield Break(batches[key].first_seq, "the windows that it was worked out from are gone")
    yield from _unfounded_silence(connection)


def _charged(connection: Connection) -> Iterator[tuple[str, str, bool]]:
    """Each batch that charged windows: the digest of those, and whether each is unchanged.

    Both kinds of windows are read in order of resource and time, side by side: a ledger has more
    of them than fit into memory.
    """
    usages = groupby(_usages(connection), key=_place)
    place, inside = next(usages, (None, iter(())))
    for _, hour in groupby(
        _supplies(connection), key=lambda row: (row["resource_id"], row["hour"])
    ):
        contents: dict[str, list[tuple[str, str]]] = {}
        whole: dict[str, bool] = {}
        for supply in hour:
            while place is not None and place < _place(supply):
                place, inside = next(usages, (None, iter(())))
            rows: list[Any] = [(SupplyWindow, supply)]
            if place == _place(supply):
                rows += [(UsageWindow, row) for row in inside]
            batch_id = supply["batch_id"]
            mine = contents.setdefault(batch_id, [])
            for kind, row in rows:
                mine.append((row["idem_key"], row["content_sha256"]))
                fact = from_row(kind, row)
                same = content_sha256(fact) == row["content_sha256"]
                whole[batch_id] = whole.get(batch_id, True) and same and (
                    fact.idem_key == row["idem_key"]
                )  # fmt: skip
        yield from ((key, inputs_sha256(mine), whole[key]) for key, mine in contents.items())


def _unfounded_silence(connection: Connection) -> Iterator[Break]:
    b, e = ledger.batch, ledger.entry
    for resource_id, start_us in unfounded(connection):
        subject = f"{resource_id}@{start_us // HOUR_US}"
        first = select(func.min(e.c.seq)).join(b, b.c.batch_id == e.c.batch_id)
        seq = connection.execute(first.where(b.c.subject == subject)).scalar()
        yield Break(seq or 0, f"the silence of {resource_id} is charged, or not, without reason")


def _place(row: Any) -> tuple[str, int]:
    return row["resource_id"], row["window_start_us"]


def _supplies(connection: Connection) -> Iterator[Any]:
    s, p = measured.supply_window, ledger.posted_window
    hour = (s.c.window_start_us // HOUR_US).label("hour")
    query = (
        select(s, p.c.batch_id, hour)
        .join(p, p.c.idem_key == s.c.idem_key)
        .order_by(s.c.resource_id, s.c.window_start_us)
    )
    return _streamed(connection, query)


def _usages(connection: Connection) -> Iterator[Any]:
    u, late = measured.usage_window, measured.late_usage
    query = (
        select(u)
        .outerjoin(late, late.c.idem_key == u.c.idem_key)
        .where(late.c.idem_key.is_(None))
        .order_by(u.c.resource_id, u.c.window_start_us)
    )
    return _streamed(connection, query)


def _streamed(connection: Connection, query: Any) -> Iterator[Any]:
    with connection.execute(query, execution_options={"yield_per": 2_000}) as rows:
        yield from rows.mappings()


def _changed_catalog(connection: Connection) -> Iterator[Break]:
    e = ledger.entry
    tables: Iterable[tuple[Table, str, Any]] = (
        (rates.price, "price_id", PriceDeclaration),
        (rates.coefficient, "coef_id", CoefficientDeclaration),
    )  # fmt: skip
    for table, key, kind in tables:
        for row in connection.execute(select(table)).mappings().all():
            if from_row(kind, row).row_id == row[key]:
                continue
            cites = (
                e.c.price_id == row[key]
                if table is rates.price
                else e.c.coef_ids.contains(row[key])
            )
            seq = connection.execute(
                select(e.c.seq).where(cites).order_by(e.c.seq).limit(1)
            ).scalar()
            if seq is not None:
                yield Break(seq, f"the {table.name} {row[key]} that it cites was changed")
