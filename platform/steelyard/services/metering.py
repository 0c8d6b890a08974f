"""From the spool to the ledger: ingest facts, close silent resources, post windows, attribute runs.

Each step may be repeated at any time by any process: segments are deleted only after their
transaction, windows are posted once, and a run's cost moves to its version once.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from steelyard.domain.energy import LoadModel
from steelyard.domain.facts import Fact
from steelyard.domain.ledger import Account, Batch, Transfer, merge
from steelyard.domain.metering import Resource, ResourceEnd, SupplyWindow
from steelyard.domain.posting import Valuation, idle_account, window_transfers
from steelyard.domain.rollout import SECOND_US

if TYPE_CHECKING:
    from steelyard.adapters.sql.catalog import CatalogStore
    from steelyard.adapters.sql.facts import FactStore, OpenWindow
    from steelyard.adapters.sql.ledger import LedgerStore
    from steelyard.ports.clock import Clock

HOUR_US = 3600 * SECOND_US
TRAINING_PATIENCE_S = 3600
"""How long a training worker may be silent before it counts as dead."""
METHOD = "busy_share"
"""Busy time decides the shares; reserved time × price is the amount."""


class Spool(Protocol):
    """Where closed segments of facts wait."""

    def segments(self) -> Sequence[Path]:
        """Oldest first."""
        ...

    def read(self, segment: Path) -> list[Fact]:
        """The facts of one segment; ValueError when it is damaged."""
        ...

    def done(self, segment: Path) -> None:
        """The ledger has it."""
        ...

    def damaged(self, segment: Path) -> None:
        """Keep it aside for a person."""
        ...


@dataclass(frozen=True, slots=True)
class Collected:
    """What one collection did."""

    segments: int = 0
    facts: int = 0
    conflicts: int = 0
    damaged: int = 0


class Metering:
    """The use cases of the metering path."""

    def __init__(
        self, facts: "FactStore", ledger: "LedgerStore", catalog: "CatalogStore", spool: Spool,
        clock: "Clock",
    ) -> None:  # fmt: skip
        self._facts = facts
        self._ledger = ledger
        self._catalog = catalog
        self._spool = spool
        self._clock = clock

    def collect(self) -> Collected:
        """Move every closed segment of the spool into SQL."""
        segments = facts = conflicts = damaged = 0
        for segment in self._spool.segments():
            try:
                rows = self._spool.read(segment)
            except FileNotFoundError:  # another collector was faster
                continue
            except ValueError:
                self._spool.damaged(segment)
                damaged += 1
                continue
            result = self._facts.ingest(rows, self._clock.now_us())
            self._spool.done(segment)
            segments += 1
            facts += result.new
            conflicts += result.conflicts
        return Collected(segments, facts, conflicts, damaged)

    def close_silent(self, heartbeat_s: float) -> int:
        """End resources that stopped reporting, and book the silence as reserved.

        A resource that died without a word ends one heartbeat after its last window: its cost is
        complete to the heartbeat, only the attribution of that piece (idle) is coarse. Training
        reports at the end of an epoch, so it is given ``TRAINING_PATIENCE_S``.
        """
        now = self._clock.now_us()
        heartbeat_us = int(heartbeat_s * SECOND_US)
        closed = 0
        for resource, last_us in self._facts.silent_resources(now - 3 * heartbeat_us):
            training = resource.kind == "train_worker"
            if training and now - last_us < TRAINING_PATIENCE_S * SECOND_US:
                continue
            end_us = last_us + heartbeat_us
            window = SupplyWindow(
                producer_id="collector", boot_id=f"inferred:{resource.resource_id}", seq=1,
                resource_id=resource.resource_id, window_start_us=last_us, window_end_us=end_us,
                reserved_us=heartbeat_us * resource.device_count,
            )  # fmt: skip
            end = ResourceEnd(resource.resource_id, end_us, inferred=True)
            self._facts.ingest([window, end], now)
            closed += 1
        return closed

    def post(self) -> int:
        """Post every window that is not in the ledger yet; the number of entries written."""
        entries = 0
        while windows := self._facts.unposted():
            for (resource_id, hour), group in _by_resource_and_hour(windows).items():
                entries += self._post_group(resource_id, hour, group)
        return entries + self.attribute_runs()

    def _post_group(self, resource_id: str, hour: int, group: "Sequence[OpenWindow]") -> int:
        resource = group[0].resource
        subject = f"{resource_id}@{hour}"
        idle = idle_account(resource, group[0].owners)
        valuation = self._valuation(resource, group[0].supply.window_start_us)
        transfers = [
            t
            for w in group
            for t in window_transfers(w.resource, w.supply, w.usages, valuation, idle)
        ]
        batch = Batch(
            kind="allocation", method_id=METHOD, method_version=1, subject=subject,
            period_start_us=min(w.supply.window_start_us for w in group),
            period_end_us=max(w.supply.window_end_us for w in group),
            revision=self._ledger.revision("allocation", METHOD, subject),
            inputs_sha256=_inputs(group), created_by="collector", reason="measured windows",
            transfers=merge(transfers),
        )  # fmt: skip
        return self._ledger.post(batch, self._clock.now_us(), [w.supply.idem_key for w in group])

    def _valuation(self, resource: Resource, at_us: int) -> Valuation:
        find = self._catalog.coefficient
        idle = find("device_idle_w", resource.device_model, at_us)
        peak = find("device_max_w", resource.device_model, at_us)
        load = (
            LoadModel(idle.value, peak.value, (idle.coef_id, peak.coef_id))
            if idle and peak
            else None
        )
        grid = find("grid_ci", resource.region, at_us) if resource.region else None
        pue = find("pue", resource.region, at_us) if resource.region else None
        return Valuation(self._catalog.prices(), load, grid, pue, self._clock.now_us())

    def attribute_runs(self) -> int:
        """Move what a run cost to the version that came out of it; failed attempts included."""
        entries = 0
        for run_id, model, version in self._catalog.unattributed_runs():
            subject = f"run/{run_id}"
            # Before the balances: whoever posts in between takes this revision.
            revision = self._ledger.revision("redistribution", "run_to_version", subject)
            transfers = []
            for balance in self._ledger.balances(model):
                account = balance.account
                if account.run_id != run_id or balance.amount <= 0:
                    continue
                target = _of_version(account, model, version)
                transfers.append(Transfer(balance.unit, balance.amount, target, account))  # type: ignore[arg-type]
            if not transfers:
                continue
            now = self._clock.now_us()
            batch = Batch(
                kind="redistribution", method_id="run_to_version", method_version=1,
                subject=subject, period_start_us=now - 1, period_end_us=now,
                revision=revision,
                inputs_sha256=sha256(f"{run_id}:{model}/{version}".encode()).hexdigest(),
                created_by="collector", reason=f"{model}/{version} was registered from this run",
                transfers=merge(transfers),
            )  # fmt: skip
            entries += self._ledger.post(batch, now)
        return entries


def _of_version(account: Account, model: str, version: int) -> Account:
    path = f"model:{model}/{version}:{account.phase}:{account.activity}"
    if account.role == "idle":
        path = f"idle:model:{model}/{version}:{account.phase}"
    return Account(path, account.role, account.phase, model, version, account.activity)


def _by_resource_and_hour(
    windows: "Iterable[OpenWindow]",
) -> "dict[tuple[str, int], list[OpenWindow]]":
    groups: dict[tuple[str, int], list[OpenWindow]] = defaultdict(list)
    for window in windows:
        hour = window.supply.window_start_us // HOUR_US
        groups[window.resource.resource_id, hour].append(window)
    return groups


def _inputs(group: "Sequence[OpenWindow]") -> str:
    lines = sorted(
        line
        for window in group
        for line in (
            f"supply:{window.supply.idem_key}",
            *(f"usage:{usage.idem_key}" for usage in window.usages),
        )
    )
    return sha256("\n".join(lines).encode()).hexdigest()
