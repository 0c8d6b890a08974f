"""The books as files for others: FOCUS for finance, SPDX and Annex XI for a model's dossier.

Every file is one snapshot. Charges are added up again on their way out, and a file whose sum is
not the ledger's to the nano is not finished.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.domain.charge import DAY_US, Charge, Selection, day_charges
from steelyard.domain.cost import Price
from steelyard.domain.energy_summary import (
    Footprint,
    Stage,
    annex_xi,
    earliest_of_runs,
    spdx_document,
)
from steelyard.domain.errors import NotFound, SteelyardError
from steelyard.domain.focus import Parties, Reference, rows
from steelyard.domain.focus_columns import Version, columns
from steelyard.domain.ledger import Unit
from steelyard.domain.lineage import upstream
from steelyard.domain.ownership import teams_on
from steelyard.domain.table import Column, Form, Row

if TYPE_CHECKING:
    from steelyard.adapters.sql.budgets import BudgetStore
    from steelyard.adapters.sql.catalog import CatalogStore
    from steelyard.adapters.sql.charges import ChargeSnapshot, ChargeStore
    from steelyard.adapters.sql.facts import FactStore
    from steelyard.adapters.sql.ledger import Balance, LedgerStore
    from steelyard.ports.clock import Clock

WriteTable = Callable[[Path | None, Form, Sequence[Column], Iterable[Row]], int]
_INTEGERS = frozenset(
    {
        "seq",
        "v",
        "amount",
        "debit_account",
        "credit_account",
        "period_start_us",
        "period_end_us",
        "recorded_us",
        "reverses_seq",
    }
)
ENTRY_COLUMNS = tuple(
    Column(name, "integer" if name in _INTEGERS else "text")
    for name in ("seq", "v", "batch_id", "idem_key", "content_sha256", "unit", "amount",
                 "debit_account", "credit_account", "period_id", "period_start_us",
                 "period_end_us", "recorded_us", "price_id", "coef_ids", "tier", "reverses_seq",
                 "prev_hash", "hash", "batch_sha256", "debit", "credit")
)  # fmt: skip
"""Everything that the chain's hashes cover, so that a file can be checked by itself."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and where in the ledger.

    ``cost_nano`` is the sum of either cost column. ``without_cost`` was used in the same time and
    is in no row: what had no price, and the building's energy, which no price is charged for.
    """

    rows: int
    ledger_seq: int
    ledger_hash: str
    cost_nano: int | None = None
    without_cost: Mapping[Unit, int] = field(default_factory=dict)


class Exports:
    """Files out of the ledger."""

    def __init__(
        self, charges: "ChargeStore", ledger: "LedgerStore", catalog: "CatalogStore",
        facts: "FactStore", budgets: "BudgetStore", clock: "Clock", write: WriteTable,
        parties: Parties,
    ) -> None:  # fmt: skip
        self._charges = charges
        self._ledger = ledger
        self._catalog = catalog
        self._facts = facts
        self._budgets = budgets
        self._clock = clock
        self._write = write
        self._parties = parties

    def entries(self, path: Path | None, form: Form) -> Exported:
        """Every entry in order, with accounts, amounts and hashes."""
        last: dict[str, Any] = {}

        def listed() -> Iterator[Row]:
            for entry in self._ledger.entries():
                last.update(seq=entry["seq"], hash=entry["hash"])
                yield {**entry, "coef_ids": " ".join(entry["coef_ids"])}

        written = self._write(path, form, ENTRY_COLUMNS, listed())
        return Exported(written, last.get("seq", 0), last.get("hash", ""))

    def focus(
        self, selection: Selection, version: Version, path: Path | None, form: Form
    ) -> Exported:
        """The selected charges as FOCUS rows.

        Raises:
            NotFound: nothing was ever charged to the selected model.
            SteelyardError: the charges do not sum to the ledger; no file is left.
        """
        if selection.model is not None and not self._ledger.balances(selection.model):
            raise NotFound(f"Nothing was charged to a model {selection.model!r}.",
                           "steelyard ledger report shows the models.")  # fmt: skip
        with self._charges.snapshot(selection) as snapshot:
            tally = _Tally()
            found = self._focus_rows(snapshot, version, tally)
            written = self._write(path, form, columns(version), found)
            seq, digest = snapshot.head() or (0, "")
        return Exported(written, seq, digest, tally.cost_nano, tally.without_cost)

    def _focus_rows(
        self, snapshot: "ChargeSnapshot", version: Version, tally: "_Tally"
    ) -> Iterator[Row]:
        prices, variants, owners = self._prices(), self._variants(), self._budgets.ownership()
        unit_prices = {price_id: price.price_nano for price_id, price in prices.items()}
        model = snapshot.selection.model
        for movements in snapshot.days():
            day = day_charges(movements, unit_prices)
            charges = [c for c in day.charges if model in (None, c.account.model)]
            tally.add(charges, day.without_cost if model is None else {})
            teams = teams_on(owners, movements[0].day)
            yield from rows(charges, Reference(prices, variants, teams, self._parties), version)
        if tally.cost_nano != (total := snapshot.total_nano()):
            raise SteelyardError(
                f"The charges sum to {tally.cost_nano} nano-USD, the ledger to {total}.",
                "steelyard ledger verify tells whether the books hold.",
            )

    def _prices(self) -> dict[str, Price]:
        return {price.price_id: price for price in self._catalog.prices()}

    def _variants(self) -> dict[tuple[str, int], str]:
        return {(v["model"], v["version"]): v["variant"] for v in self._catalog.versions()}

    def spdx(self, model: str | None) -> dict[str, Any]:
        """An SPDX 3.0.1 document about the energy of a model's versions, or of all."""
        head = self._ledger.head()
        place = (head.seq, head.hash) if head else (0, "")
        return spdx_document(self._footprints(model), self._clock.now_us(), place)

    def annex_xi(self, model: str | None) -> dict[str, Any]:
        """What the EU AI Act's Annex XI asks of each version, with what it descends from."""
        head = self._ledger.head()
        found = self._footprints(model)
        parents = {f.name: [f"{f.model}/{f.parent}"] if f.parent else [] for f in found}
        flop = {f.name: f.training_flop if f.flop_complete else None for f in found}
        energy = {f.name: f.training.energy_mj for f in found}
        return {
            "ledger_seq": head.seq if head else 0, "ledger_hash": head.hash if head else "",
            "versions": [
                annex_xi(f, upstream(flop, parents, f.name), upstream(energy, parents, f.name))
                for f in found
            ],
        }  # fmt: skip

    def _footprints(self, model: str | None) -> list[Footprint]:
        versions = self._catalog.versions(model)
        if model is not None and not versions:
            raise NotFound(f"No version of a model {model!r} is registered.",
                           "steelyard models list shows the models.")  # fmt: skip
        teams = teams_on(self._budgets.ownership(), self._clock.now_us() // DAY_US)
        found: list[Footprint] = []
        for name in dict.fromkeys(str(v["model"]) for v in versions):
            mine = [v for v in versions if v["model"] == name]
            found += self._of_model(name, mine, teams.get(name))
        return found

    def _of_model(
        self, model: str, versions: Sequence[Mapping[str, Any]], team: str | None
    ) -> Iterator[Footprint]:
        balances = self._ledger.balances(model)
        runs = earliest_of_runs([(v["run_id"], v["version"]) for v in versions])
        trained = [u for u in self._facts.usage(model) if u.phase == "training"]
        attempts = self._catalog.attempts(model)
        for v in versions:
            version = v["version"]
            mine = [u for u in trained if (u.version or runs.get(u.run_id or "")) == version]
            counted = [u.flop for u in mine if u.flop is not None]
            walls = [a["ended_us"] - a["started_us"] for a in attempts
                     if a["run_id"] == v["run_id"] and a["ended_us"] is not None]  # fmt: skip
            yield Footprint(
                model, version, v["variant"], v["relation"], v["parent"], v["run_id"],
                v["sha256"], v["parameters"], v["created_us"], team,
                _stage(balances, version, "training"), _stage(balances, version, "inference"),
                sum(counted) if counted else None,
                bool(mine) and all(u.flop_windows == u.windows for u in mine),
                sum(walls) if walls else None,
            )  # fmt: skip


class _Tally:
    """What went out so far."""

    def __init__(self) -> None:
        self.cost_nano = 0
        self.without_cost: dict[Unit, int] = {}

    def add(self, charges: Iterable[Charge], without_cost: Mapping[Unit, int]) -> None:
        """Count one day."""
        self.cost_nano += sum(charge.cost_nano for charge in charges)
        for unit, amount in without_cost.items():
            self.without_cost[unit] = self.without_cost.get(unit, 0) + amount


def _stage(balances: "Sequence[Balance]", version: int, phase: str) -> Stage:
    energy: dict[str, int] = {}
    device: int | None = None
    for b in balances:
        if b.account.version != version or b.account.phase != phase:
            continue
        if b.unit == "device_us":
            device = (device or 0) + b.amount
        if b.unit == "mJ":
            for method, mj in b.tiers:
                energy[method] = energy.get(method, 0) + mj
    return Stage(device, energy)
