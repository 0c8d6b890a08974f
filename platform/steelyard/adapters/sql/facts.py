"""The store of measured facts: ingestion with idempotency, and what still waits for posting."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    RowMapping,
    Select,
    Table,
    exists,
    func,
    select,
    union,
)
from sqlalchemy.exc import DataError, IntegrityError

from steelyard.adapters.sql import projections
from steelyard.adapters.sql.appending import REVERSAL
from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.insert import insert_new
from steelyard.adapters.sql.notes import note_supply, note_usage
from steelyard.adapters.sql.prediction_segments import add_predictions
from steelyard.adapters.sql.quarantine import keep_aside_clashes, keep_aside_future
from steelyard.adapters.sql.rows import from_row
from steelyard.adapters.sql.silence import IS_SUPERSEDED, silent, supersede
from steelyard.adapters.sql.tables import ledger, measured
from steelyard.domain.audit import PredictionRecord
from steelyard.domain.audit_chain import SegmentSeal
from steelyard.domain.cost import HOUR_US
from steelyard.domain.errors import InvalidInput
from steelyard.domain.facts import AHEAD_US, Fact, content_sha256, latest_us
from steelyard.domain.metering import (
    Activity,
    BootEnd,
    LedgerPhase,
    Resource,
    ResourceEnd,
    RunAttempt,
    SupplyWindow,
    UsageWindow,
)
from steelyard.domain.posting import Owner
from steelyard.domain.silence import COLLECTOR

KEYS: dict[type[Fact], tuple[Table, tuple[str, ...]]] = {
    Resource: (measured.resource, ("resource_id",)),
    ResourceEnd: (measured.resource_end, ("resource_id",)),
    RunAttempt: (measured.run_attempt, ("run_id", "attempt")),
    BootEnd: (measured.boot_end, ("producer_id", "boot_id")),
    SupplyWindow: (measured.supply_window, ("idem_key",)),
    UsageWindow: (measured.usage_window, ("idem_key",)),
}


@dataclass(frozen=True, slots=True)
class Ingested:
    """How many rows were new, known already, and known with other content (kept aside)."""

    new: int
    known: int
    conflicts: int


@dataclass(frozen=True, slots=True)
class OpenWindow:
    """A supply window that is not in the ledger yet, with the usage inside it.

    ``owners`` are all that the resource ever worked for, in this window or another. ``late`` are
    the keys of usage that arrived after the supply window did. ``contents`` are the digests that
    the windows were stored with, by key.
    """

    resource: Resource
    supply: SupplyWindow
    usages: tuple[UsageWindow, ...]
    owners: frozenset[Owner]
    late: tuple[str, ...] = ()
    contents: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UsageDay:
    """One day's usage of a version, or of a run without one, in one activity.

    ``flop`` is None when no window knew its FLOPs; ``flop_windows`` of ``windows`` did.
    """

    model: str
    version: int | None
    run_id: str | None
    day: int
    phase: LedgerPhase
    activity: Activity
    windows: int
    requests: int
    errors: int
    cache_hits: int
    items: int
    tokens_in: int
    tokens_out: int
    busy_ns: int
    flop: int | None
    flop_windows: int
    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class Completeness:
    """Windows received of windows expected, by the numbers that producers gave them.

    ``open_boots`` of ``boots`` did not say their last number (they run, or were killed): what
    they may have lost after their last window is not in ``expected``.
    """

    received: int
    expected: int
    boots: int
    open_boots: int

    @property
    def share(self) -> float | None:
        """Received / expected; None when nothing was expected."""
        return self.received / self.expected if self.expected else None


class FactStore:
    """Facts in SQL. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def ingest(self, facts: Iterable[Fact], now_us: int) -> Ingested:
        """Store facts; repeating them changes nothing, what cannot be believed is kept aside.

        That is other content under a known key, and what lies more than a day in the future.

        Raises:
            InvalidInput: a fact cannot be stored (a window of an unknown resource, a number
                beyond 64 bits, predictions that are not those that were sealed); then nothing
                of the report is.
        """
        try:
            return self._ingest(facts, now_us)
        except (IntegrityError, DataError, OverflowError, TypeError, UnicodeError) as error:
            cause = str(getattr(error, "orig", error)).splitlines()[0]
            raise InvalidInput(
                f"A report does not fit the ledger: {cause}.",
                hint="Nothing of it was stored; correct it and hand it in again.",
            ) from error

    def _ingest(self, facts: Iterable[Fact], now_us: int) -> Ingested:
        by_kind: dict[type[Fact], list[Fact]] = {}
        future: list[Fact] = []
        chained: list[Fact] = []
        for fact in facts:
            if isinstance(fact, PredictionRecord | SegmentSeal):
                chained.append(fact)
                continue
            believed = latest_us(fact) <= now_us + AHEAD_US
            (by_kind.setdefault(type(fact), []) if believed else future).append(fact)
        new, known, conflicts = 0, 0, len(future)
        supplied: set[tuple[str, int]] = set()
        heard: set[str] = set()
        with writing(self._engine) as connection:
            keep_aside_future(connection, future, now_us)
            for kind in KEYS:  # resources first: windows refer to them
                rows = [_row(fact, now_us) for fact in by_kind.get(kind, ())]
                table, keys = KEYS[kind]
                inserted = insert_new(connection, table, rows, keys)
                new += len(inserted)
                repeated = len(rows) - len(inserted)
                # All rows, not only the skipped: two may share a key within one report.
                clashes = keep_aside_clashes(connection, table, rows, now_us) if repeated else 0
                conflicts += clashes
                known += repeated - clashes
                if kind is SupplyWindow:
                    supplied = note_supply(connection, _first_of_each(rows, inserted))
                    heard |= {resource_id for resource_id, _ in supplied}
                elif kind is ResourceEnd:
                    heard |= {key[0] for key in inserted}
                elif kind is UsageWindow:
                    note_usage(connection, _first_of_each(rows, inserted), supplied)
            supersede(connection, heard, now_us)
            added = add_predictions(connection, chained, now_us)
        return Ingested(
            new + added.new, known + added.known, conflicts + added.future
        )  # fmt: skip

    def unposted(self, limit: int = 2_000) -> list[OpenWindow]:
        """Supply windows without entries, oldest first, each with its usage windows."""
        s, w, p = measured.supply_window, measured.waiting_window, ledger.posted_window
        waiting = (
            select(s)
            .join(w, w.c.idem_key == s.c.idem_key)
            .outerjoin(p, p.c.idem_key == s.c.idem_key)
            .where(p.c.idem_key.is_(None), ~IS_SUPERSEDED)
            .order_by(w.c.window_start_us)
            .limit(limit)
        )
        with reading(self._engine) as connection:
            return _opened(connection, waiting)

    def late(self) -> list[tuple[str, int]]:
        """Resources and starts of charged windows that have to be charged anew.

        Their usage or their owner came afterwards, or they were inferred and are superseded.
        """
        late, s, w, p = (
            measured.late_usage,
            measured.supply_window,
            measured.waiting_window,
            ledger.posted_window,
        )
        gone = measured.superseded_window
        same = (s.c.resource_id == late.c.resource_id) & (
            s.c.window_start_us == late.c.window_start_us
        )
        place = select(s.c.resource_id, s.c.window_start_us)
        query = union(*(
            source.join(p, p.c.idem_key == s.c.idem_key).where(_STANDS)
            for source in (
                place.join(late, same), place.join(w, w.c.idem_key == s.c.idem_key),
                place.join(gone, gone.c.idem_key == s.c.idem_key),
            )
        ))  # fmt: skip
        with reading(self._engine) as connection:
            found = [(row[0], row[1]) for row in connection.execute(query)]
        return sorted(found, key=lambda place: (place[1], place[0]))

    def windows(self, resource_id: str, start_us: int, end_us: int) -> list[OpenWindow]:
        """The charged windows of a resource that start in ``[start_us, end_us)``.

        Those whose charge was taken back by a person are not charged, nor are superseded ones.
        """
        query = _charged(resource_id, start_us, end_us).where(~IS_SUPERSEDED)
        with reading(self._engine) as connection:
            return _opened(connection, query)

    def superseded(self, resource_id: str, start_us: int, end_us: int) -> tuple[str, ...]:
        """The keys of superseded windows in ``[start_us, end_us)`` whose charge still stands."""
        query = _charged(resource_id, start_us, end_us).where(IS_SUPERSEDED)
        with reading(self._engine) as connection:
            return tuple(row["idem_key"] for row in connection.execute(query).mappings())

    def silent_resources(self, before_us: int) -> list[tuple[Resource, int]]:
        """Resources that neither ended nor reported since ``before_us``, with their last moment.

        One whose end was inferred, and that was heard of again, has not ended.
        """
        with reading(self._engine) as connection:
            return list(silent(connection, before_us))

    def reservations(self) -> list[tuple[Resource, int | None]]:
        """Reserved capacity with the moment it was given back; None while it is held."""
        r, e = measured.resource, measured.resource_end
        query = (
            select(r, e.c.ended_us)
            .outerjoin(e, e.c.resource_id == r.c.resource_id)
            .where(r.c.kind == "reservation")
            .order_by(r.c.resource_id)
        )
        with reading(self._engine) as connection:
            rows = connection.execute(query).mappings()
            return [(from_row(Resource, row), row["ended_us"]) for row in rows]

    def reserved_with(self, price_sku: str, hour_start_us: int) -> int:
        """Device-microseconds that resources under a price reserved in windows of one hour."""
        s, r = measured.supply_window, measured.resource
        query = (
            select(func.coalesce(func.sum(s.c.reserved_us), 0))
            .join(r, r.c.resource_id == s.c.resource_id)
            .where(
                r.c.price_sku == price_sku,
                s.c.window_start_us.between(hour_start_us, hour_start_us + HOUR_US - 1),
                ~IS_SUPERSEDED,
            )
        )
        with reading(self._engine) as connection:
            return int(connection.execute(query).scalar_one())

    def usage(
        self, model: str | None = None, first_day: int | None = None, last_day: int | None = None
    ) -> list[UsageDay]:
        """Usage by day, version, run, phase and activity; FLOPs are exact."""
        u = projections.usage_day
        query = select(u).order_by(u.c.model, u.c.version, u.c.day, u.c.phase, u.c.activity)
        if model is not None:
            query = query.where(u.c.model == model)
        if first_day is not None:
            query = query.where(u.c.day >= first_day)
        if last_day is not None:
            query = query.where(u.c.day <= last_day)
        with reading(self._engine) as connection:
            return [_usage_day(row) for row in connection.execute(query).mappings()]

    def completeness(self, model: str | None = None) -> Completeness:
        """How many windows arrived of those that producers numbered; all of one model if given.

        A boot of which nothing but its end arrived counts too, except for a single model: nobody
        knows what it worked for.
        """
        b, e = projections.boot, measured.boot_end
        last = func.coalesce(e.c.last_seq, b.c.highest_seq)
        query = select(
            func.coalesce(func.sum(b.c.received), 0), func.coalesce(func.sum(last), 0),
            func.count(), func.count(e.c.boot_id),
        ).outerjoin(
            e, (e.c.producer_id == b.c.producer_id) & (e.c.boot_id == b.c.boot_id)
        )  # fmt: skip
        if model is not None:
            query = query.where(b.c.model == model)
        with reading(self._engine) as connection:
            received, expected, boots, ended = connection.execute(query).one()
            lost = []
            if model is None:
                unheard = select(e.c.last_seq).where(~exists().where(
                    (b.c.producer_id == e.c.producer_id) & (b.c.boot_id == e.c.boot_id)
                ), e.c.producer_id != COLLECTOR)  # fmt: skip
                lost = list(connection.execute(unheard).scalars())
        return Completeness(
            int(received), int(expected) + sum(lost), boots + len(lost), boots - ended
        )  # fmt: skip

    def conflicts(self) -> int:
        """How many rows were refused because their key is taken by other content."""
        with reading(self._engine) as connection:
            count = connection.execute(select(func.count()).select_from(measured.usage_conflict))
            return count.scalar_one()


_TAKEN = ledger.batch.alias("taken")
_STANDS = ~exists().where(
    _TAKEN.c.subject == ledger.posted_window.c.batch_id, _TAKEN.c.method_id == REVERSAL
)
"""A posted window whose charge nobody took back."""


def _charged(resource_id: str, start_us: int, end_us: int) -> Select[Any]:
    s, p = measured.supply_window, ledger.posted_window
    return (
        select(s)
        .join(p, p.c.idem_key == s.c.idem_key)
        .where(
            s.c.resource_id == resource_id,
            s.c.window_start_us.between(start_us, end_us - 1),
            _STANDS,
        )
        .order_by(s.c.window_start_us)
    )


def _first_of_each(
    rows: Sequence[Mapping[str, Any]], inserted: set[tuple[Any, ...]]
) -> list[Mapping[str, Any]]:
    """The rows that were inserted: of several with one key, the first."""
    firsts: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if (row["idem_key"],) in inserted:
            firsts.setdefault(row["idem_key"], row)
    return list(firsts.values())


def _opened(connection: Connection, supply_query: Any) -> list[OpenWindow]:
    u, o, late = measured.usage_window, measured.resource_owner, measured.late_usage
    rows = connection.execute(supply_query).mappings().all()
    supplies = [from_row(SupplyWindow, row) for row in rows]
    keys = [row["idem_key"] for row in rows]  # as stored: to work one out again is a hash
    contents = {row["idem_key"]: row["content_sha256"] for row in rows}
    ids = sorted({w.resource_id for w in supplies})
    starts = [w.window_start_us for w in supplies]
    resources = {
        row["resource_id"]: from_row(Resource, row)
        for row in connection.execute(
            select(measured.resource).where(measured.resource.c.resource_id.in_(ids))
        ).mappings()
    }
    inside = select(u).where(
        u.c.resource_id.in_(ids),
        u.c.window_start_us.between(min(starts, default=0), max(starts, default=0)),
    )
    usages: dict[tuple[str, int], list[tuple[str, UsageWindow]]] = {}
    for row in connection.execute(inside).mappings():
        place = (row["resource_id"], row["window_start_us"])
        usages.setdefault(place, []).append((row["idem_key"], from_row(UsageWindow, row)))
        contents[row["idem_key"]] = row["content_sha256"]
    owners: dict[str, set[Owner]] = {}
    for one in connection.execute(select(o).where(o.c.resource_id.in_(ids))):
        owner = Owner(one.model, one.version or None, one.phase, one.run_id or None)
        owners.setdefault(one.resource_id, set()).add(owner)
    lates = set(connection.execute(
        select(late.c.idem_key).where(late.c.resource_id.in_(ids))
    ).scalars())  # fmt: skip
    found = []
    for key, supply in zip(keys, supplies, strict=True):
        inside_it = usages.get((supply.resource_id, supply.window_start_us), ())
        found.append(OpenWindow(
            resources[supply.resource_id], supply, tuple(usage for _, usage in inside_it),
            frozenset(owners.get(supply.resource_id, ())),
            tuple(one for one, _ in inside_it if one in lates),
            {one: contents[one] for one in (key, *(one for one, _ in inside_it))},
        ))  # fmt: skip
    return found


def _row(fact: Fact, now_us: int) -> dict[str, Any]:
    # Facts are flat: no need of asdict, which copies deeply.
    row: dict[str, Any] = {name: getattr(fact, name) for name in fact.__dataclass_fields__}
    if isinstance(fact, SupplyWindow | UsageWindow):
        row |= {"idem_key": fact.idem_key, "content_sha256": content_sha256(fact),
                "received_us": now_us}  # fmt: skip
    if isinstance(fact, ResourceEnd):
        row["inferred"] = int(fact.inferred)
    return row


def _usage_day(row: RowMapping) -> UsageDay:
    values = {name: row[name] for name in UsageDay.__dataclass_fields__}
    return UsageDay(**values | {
        "version": row["version"] or None, "run_id": row["run_id"] or None,
        "flop": row["flop"] if row["flop_windows"] else None,
    })  # fmt: skip
