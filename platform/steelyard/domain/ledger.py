"""Ledger entries: one row is one transfer of a positive integer amount between two accounts.

Balance of an account = debits − credits, per unit. What is consumed is debited to the consumer
and credited to the pool; the pool is debited from the supply; after allocation it is 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Literal

from steelyard.domain.hash_chain import digest
from steelyard.domain.metering import Activity, EnergyMethod, LedgerPhase

Unit = Literal["device_us", "nUSD", "mJ", "ugCO2e_loc", "ugCO2e_emb"]
Role = Literal["supply", "pool", "consumer", "idle", "overhead"]
BatchKind = Literal["allocation", "valuation", "redistribution", "reversal", "correction"]
QUANTITIES: frozenset[Unit] = frozenset({"device_us", "mJ"})
"""What was measured. The other units value it, and may be valued again."""

ALLOCATION = "busy_share"
"""The method that charges windows: busy time decides the shares of what was reserved."""

TO_VERSION, TO_FAILED = "run_to_version", "run_to_failed"
"""The methods that move what a run cost to its version, or to its model's failures."""

FORMAT = 2
"""Version of the hashed bytes; 2 added ``tier``."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who gives or takes. ``path`` is unique per unit and readable."""

    path: str
    role: Role
    phase: LedgerPhase | None = None
    model: str | None = None
    version: int | None = None
    activity: Activity | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Transfer:
    """A movement before it has a place in the chain: ``amount`` > 0 to ``debit``.

    ``tier`` is the method that an amount of energy, or of what follows from it, was found by.
    ``reverses`` is the number of the entry that this one takes back.
    """

    unit: Unit
    amount: int
    debit: Account
    credit: Account
    price_id: str | None = None
    coef_ids: tuple[str, ...] = ()
    tier: EnergyMethod | None = None
    reverses: int | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Transfers that are posted together, with the digest of what they were computed from.

    ``revision`` counts the batches of one method about one subject.
    """

    kind: BatchKind
    method_id: str
    method_version: int
    subject: str
    period_start_us: int
    period_end_us: int
    inputs_sha256: str
    created_by: str
    reason: str
    transfers: tuple[Transfer, ...]
    revision: int = 0

    @property
    def batch_id(self) -> str:
        """Of two that were worked out at once for one subject, only one can be posted."""
        parts = [self.method_id, self.subject, self.revision]
        return digest({"p": parts})[:32]

    @property
    def batch_sha256(self) -> str:
        """Digest of the batch row without itself and its creation time."""
        return digest({
            "batch_id": self.batch_id, "kind": self.kind, "method_id": self.method_id,
            "method_version": self.method_version, "subject": self.subject,
            "period_start_us": self.period_start_us, "period_end_us": self.period_end_us,
            "revision": self.revision, "inputs_sha256": self.inputs_sha256,
            "created_by": self.created_by, "reason": self.reason,
        })  # fmt: skip


@dataclass(frozen=True, slots=True)
class Posting:
    """Batches that enter the ledger together or not at all.

    ``windows`` are the supply windows that they charge; each is charged once, so a posting of
    one that was charged meanwhile is void, unless it ``replaces`` the batches that did. Those
    are reversed first. ``late`` are usage windows that came after their supply window and are in
    now; ``superseded`` are windows that the replaced batches charged and nobody does any more.
    ``revision``, when given, voids the posting if the first batch's subject
    has another number of batches by now: somebody else was faster. So does a resource among
    ``owners`` that has worked for another number of owners by now.
    """

    batches: tuple[Batch, ...]
    windows: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    superseded: tuple[str, ...] = ()
    revision: int | None = None
    reason: str = ""
    actor: str = "ledger"
    owners: Mapping[str, int] = field(default_factory=dict)


def entry_key(batch_id: str, line: int) -> str:
    """Idempotency key of line ``line`` of a batch."""
    # The canonical bytes of {"p": [batch_id, line]}, written out: this is done for every entry.
    return sha256(f'{{"p":["{batch_id}","{line}"]}}'.encode()).hexdigest()


def hashed_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of an entry that the chain covers, from a stored or about-to-be-stored row."""
    keys = (
        "amount", "batch_id", "batch_sha256", "coef_ids", "credit", "debit", "idem_key",
        "period_end_us", "period_id", "period_start_us", "price_id", "recorded_us",
        "reverses_seq", "seq", "tier", "unit", "v",
    )  # fmt: skip
    return {key: row[key] for key in keys}


def content_sha256(row: Mapping[str, Any]) -> str:
    """Digest of an entry without its place and time: what a retry must repeat."""
    return digest({k: v for k, v in hashed_row(row).items() if k not in ("seq", "recorded_us")})


def inputs_sha256(windows: Iterable[tuple[str, str]]) -> str:
    """Digest of what a batch was worked out from: (key, ``content_sha256``) of its windows.

    What it was valued with is cited by its entries, by ids that are digests themselves.
    """
    lines = sorted(f"{key}:{content}" for key, content in windows)
    return sha256("\n".join(lines).encode()).hexdigest()


def period_of(at_us: int) -> tuple[str, int, int]:
    """The calendar month (UTC) of a moment: id, start, end.

    >>> period_of(0)
    ('1970-01', 0, 2678400000000)
    """
    moment = datetime.fromtimestamp(at_us / 1e6, UTC)
    start = datetime(moment.year, moment.month, 1, tzinfo=UTC)
    after = datetime(moment.year + moment.month // 12, moment.month % 12 + 1, 1, tzinfo=UTC)
    return start.strftime("%Y-%m"), _us(start), _us(after)


def _us(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000


def merge(transfers: Sequence[Transfer]) -> tuple[Transfer, ...]:
    """Join transfers that differ in nothing but the amount; drop those of nothing."""
    sums: dict[tuple[str, ...], int] = {}
    last: dict[tuple[str, ...], Transfer] = {}
    for t in transfers:
        key = (t.unit, t.debit.path, t.credit.path, t.price_id or "", t.tier or "", *t.coef_ids)
        sums[key] = sums.get(key, 0) + t.amount
        last[key] = t
    return tuple(replace(last[key], amount=total) for key, total in sorted(sums.items()) if total)
