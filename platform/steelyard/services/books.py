"""Keeping the books: post windows, move what runs cost, value again, reverse, close.

Each act may be repeated at any time by any process: a window is charged once, a run's cost moves
once, a batch is taken back once.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from steelyard.domain.accounts import is_failed, moved
from steelyard.domain.errors import NotFound, Refused
from steelyard.domain.ledger import (
    ALLOCATION,
    QUANTITIES,
    TO_FAILED,
    TO_VERSION,
    Account,
    Batch,
    Posting,
    Transfer,
    inputs_sha256,
    merge,
    period_of,
)
from steelyard.domain.posting import idle_account, window_transfers
from steelyard.domain.rollout import SECOND_US
from steelyard.services.reservations import unused_capacity

if TYPE_CHECKING:
    from steelyard.adapters.sql.catalog import CatalogStore
    from steelyard.adapters.sql.facts import FactStore, OpenWindow
    from steelyard.adapters.sql.ledger import Balance, LedgerStore
    from steelyard.adapters.sql.periods import Period, PeriodStore
    from steelyard.domain.rate_book import RateBook
    from steelyard.ports.clock import Clock

HOUR_US = 3600 * SECOND_US
VALUATION = "valuation"
"""Money and carbon of the same windows; valued anew when a price or an intensity changes."""
METHOD_VERSION = 2
"""From 2 on, a batch's inputs are the contents of its windows, not only their keys."""
LATE = "usage arrived after its hour was posted"
HEARD = "the resource was heard of again, and ends where it says itself"
"""Why an hour is charged anew."""
TOGETHER = 50
"""Postings a transaction: what is written at once is synced to disk at once."""


@dataclass(frozen=True, slots=True)
class Valued:
    """What valuing anew did: how many resource-hours changed, and the entries written."""

    hours: int
    entries: int


class Books:
    """The use cases of the ledger's writing side."""

    def __init__(
        self, facts: "FactStore", ledger: "LedgerStore", periods: "PeriodStore",
        catalog: "CatalogStore", clock: "Clock",
    ) -> None:  # fmt: skip
        self._facts = facts
        self._ledger = ledger
        self._periods = periods
        self._catalog = catalog
        self._clock = clock

    def post(self) -> int:
        """Post every window and every late usage that waits; the number of entries written.

        First what is charged wrongly by now, so that a window which takes another's place is not
        charged beside it, nor in an hour that is charged anew at once.
        """
        book = self._catalog.rate_book(self._clock.now_us())
        entries = self._write(self._anew(book))
        while windows := self._facts.unposted():
            groups = _by_resource_and_hour(windows).values()
            entries += self._write(_charge(book, group) for group in groups)
        entries += self._write(
            unused_capacity(self._facts, self._ledger, book, self._clock.now_us())
        )
        entries += self.attribute_runs()
        if entries:
            self._ledger.publish_head(self._clock.now_us())
        return entries

    def _write(self, postings: Iterable[Posting]) -> int:
        entries, waiting = 0, list(postings)
        for start in range(0, len(waiting), TOGETHER):
            entries += self._ledger.post(waiting[start : start + TOGETHER], self._clock.now_us())
        return entries

    def _anew(self, book: "RateBook") -> Iterator[Posting]:
        """Hours that were posted before what is known of them now: charged anew."""
        hours = {(resource, start // HOUR_US) for resource, start in self._facts.late()}
        for resource_id, hour in sorted(hours):
            subject = f"{resource_id}@{hour}"
            # Before the windows: whoever posts in between takes this revision.
            revision = self._ledger.revision(ALLOCATION, subject)
            standing = self._standing(subject)
            gone = self._facts.superseded(resource_id, hour * HOUR_US, (hour + 1) * HOUR_US)
            group = self._hour(resource_id, hour)
            posting = replace(_charge(book, group), revision=revision) if group else Posting(())
            if group or gone:
                yield replace(
                    posting, replaces=standing, superseded=gone, reason=HEARD if gone else LATE
                )

    def _hour(self, resource_id: str, hour: int) -> "list[OpenWindow]":
        return self._facts.windows(resource_id, hour * HOUR_US, (hour + 1) * HOUR_US)

    def _standing(self, subject: str, method_id: str | None = None) -> tuple[str, ...]:
        return tuple(
            b.batch_id for b in self._ledger.batches(subject)
            if not b.reversed and method_id in (None, b.method_id)
        )  # fmt: skip

    def value_anew(self, since_us: int, until_us: int) -> Valued:
        """Value charged hours with today's knowledge; quantities and energy stay as they are."""
        book = self._catalog.rate_book(self._clock.now_us())
        charged = self._ledger.batches_between(ALLOCATION, since_us, until_us)
        changed = []
        for subject in dict.fromkeys(b.subject for b in charged if not b.reversed):
            resource_id, hour = subject.rsplit("@", 1)
            # Before the windows: whoever values in between takes this revision.
            revision = self._ledger.revision(VALUATION, subject)
            group = self._hour(resource_id, int(hour))
            if not group:
                continue
            standing = self._standing(subject, VALUATION)
            before = [t for batch_id in standing for t in self._ledger.transfers(batch_id)]
            after = [t for t in _transfers(book, group) if t.unit not in QUANTITIES]
            if merge(before) != merge(after):
                batch = _batch(group, VALUATION, merge(after), "prices or coefficients changed")
                reason = "prices or coefficients changed"
                changed.append(
                    Posting((batch,), replaces=standing, reason=reason, revision=revision)
                )  # fmt: skip
        return Valued(len(changed), self._write(changed))

    def reverse(self, batch_id: str, reason: str, actor: str) -> int:
        """Take a batch back with its mirror image; the number of entries.

        Raises:
            NotFound: there is no such batch.
            Refused: it was reversed before, or is a reversal itself.
        """
        batch = self._ledger.batch(batch_id)
        if batch is None:
            raise NotFound(
                f"There is no batch {batch_id!r}.", "steelyard ledger entries shows batch ids."
            )
        if batch.method_id == "reversal":
            raise Refused(f"Batch {batch_id} is a reversal.", "Post the right charge anew instead.")
        posting = Posting((), replaces=(batch_id,), reason=reason, actor=actor)
        if batch.reversed or not (entries := self._ledger.post([posting], self._clock.now_us())):
            raise Refused(f"Batch {batch_id} was reversed before.", "A batch is reversed once.")
        return entries

    def close(self, period_id: str, actor: str) -> "Period":
        """Close a month for ever, after posting what waits; what comes later is a correction.

        Raises:
            NotFound: nothing was ever booked in that month.
            Refused: the month is not over, or is closed already.
        """
        known = {p.period_id: p for p in self._periods.all()}
        period = known.get(period_id)
        if period is None:
            listed = ", ".join(known) or "none yet"
            raise NotFound(f"There is no period {period_id!r}.", f"Booked periods: {listed}.")
        if period.status == "closed":
            raise Refused(f"Period {period_id} is closed.", "A closed period never changes.")
        if period.period_id == period_of(self._clock.now_us())[0]:
            raise Refused(f"Period {period_id} is not over.", "Close it when its month has ended.")
        self._periods.begin_closing(period_id)
        self.post()
        return self._periods.close(period_id, self._clock.now_us(), actor)

    def attribute_runs(self) -> int:
        """Move what runs cost: to the version that came out, or to the model's failures.

        A version that was trained takes over what failed before it: without the failures it
        would not be there.
        """
        moves = []
        trained = {(v["model"], v["version"]) for v in self._catalog.versions()
                   if v["relation"] == "trained"}  # fmt: skip
        for run_id, model, version in self._catalog.unattributed_runs():
            with_failed = (model, version) in trained
            reason = f"{model}/{version} was registered from this run"
            moves += self._move(run_id, model, version, reason, with_failed)
        for run_id, model in self._catalog.failed_runs():
            moves += self._move(run_id, model, None, "the run ended without a version", False)
        return self._write(moves)

    def _move(
        self, run_id: str, model: str, version: int | None, reason: str, with_failed: bool
    ) -> list[Posting]:
        method, subject = TO_VERSION if version else TO_FAILED, f"run/{run_id}"
        # Before the balances: whoever moves in between takes this revision.
        revision = self._ledger.revision(method, subject)
        transfers = [
            _transfer(b, tier, amount, moved(b.account, version))
            for b in self._ledger.balances(model)
            if b.account.run_id == run_id or (with_failed and is_failed(b.account))
            for tier, amount in (b.tiers or ((None, b.amount),))
            if amount
        ]
        if not transfers:
            return []
        now = self._clock.now_us()
        batch = Batch(
            kind="redistribution", method_id=method, method_version=1, subject=subject,
            period_start_us=now - 1, period_end_us=now,
            inputs_sha256=sha256(f"{run_id}:{model}/{version}".encode()).hexdigest(),
            created_by="ledger", reason=reason, transfers=merge(transfers),
        )  # fmt: skip
        return [Posting((batch,), revision=revision)]


def _transfer(balance: "Balance", tier: str | None, amount: int, to: Account) -> Transfer:
    """Move a balance. One that a reversal made negative is moved the other way."""
    debit, credit = (to, balance.account) if amount > 0 else (balance.account, to)
    return Transfer(balance.unit, abs(amount), debit, credit, tier=tier)  # type: ignore[arg-type]


def _by_resource_and_hour(
    windows: "Iterable[OpenWindow]",
) -> "dict[tuple[str, int], list[OpenWindow]]":
    groups: dict[tuple[str, int], list[OpenWindow]] = defaultdict(list)
    for window in windows:
        hour = window.supply.window_start_us // HOUR_US
        groups[window.resource.resource_id, hour].append(window)
    return groups


def _transfers(book: "RateBook", group: "Sequence[OpenWindow]") -> list[Transfer]:
    idle = idle_account(group[0].resource, group[0].owners)
    found: list[Transfer] = []
    for w in group:
        valuation = book.valuation(w.resource, w.supply.window_start_us)
        found += window_transfers(w.resource, w.supply, w.usages, valuation, idle)
    return found


def _charge(book: "RateBook", group: "Sequence[OpenWindow]") -> Posting:
    """What the windows of one resource in one hour cost whom: quantities, and their value."""
    transfers = _transfers(book, group)
    quantities = [t for t in transfers if t.unit in QUANTITIES]
    values = [t for t in transfers if t.unit not in QUANTITIES]
    batches = [_batch(group, ALLOCATION, merge(quantities), "measured windows")]
    if values:
        batches.append(_batch(group, VALUATION, merge(values), "measured windows"))
    return Posting(
        tuple(batches), windows=tuple(w.supply.idem_key for w in group),
        late=tuple(key for w in group for key in w.late),
        owners={group[0].resource.resource_id: len(group[0].owners)},
    )  # fmt: skip


def _batch(
    group: "Sequence[OpenWindow]", method_id: str, transfers: tuple[Transfer, ...], reason: str
) -> Batch:
    first = group[0].supply.window_start_us
    return Batch(
        kind="allocation" if method_id == ALLOCATION else "valuation",
        method_id=method_id, method_version=METHOD_VERSION,
        subject=f"{group[0].resource.resource_id}@{first // HOUR_US}",
        period_start_us=min(w.supply.window_start_us for w in group),
        period_end_us=max(w.supply.window_end_us for w in group),
        inputs_sha256=inputs_sha256(key for w in group for key in w.contents.items()),
        created_by="ledger", reason=reason, transfers=transfers,
    )  # fmt: skip
