"""Files for finance and for a model's dossier, from a real ledger on both databases."""

import csv
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from sqlalchemy import Engine, insert, text

from steelyard.adapters.sql.budgets import BudgetStore
from steelyard.adapters.sql.charges import ChargeStore
from steelyard.adapters.sql.tables import rates
from steelyard.adapters.tabular_files import write_table
from steelyard.domain.charge import DAY_US, Selection
from steelyard.domain.errors import InvalidInput, NotFound, SteelyardError
from steelyard.domain.facts import Fact
from steelyard.domain.focus import Parties
from steelyard.domain.focus_columns import Version
from steelyard.domain.hash_chain import GENESIS, link
from steelyard.domain.ledger import hashed_row
from steelyard.domain.metering import (
    EnergyMethod,
    Resource,
    RunAttempt,
    SupplyWindow,
    UsageWindow,
)
from steelyard.domain.model_version import ModelVersion, Relation, Signature
from steelyard.domain.ownership import Ownership
from steelyard.services.exports import Exported, Exports

from .conftest import Bookkeeping

pytestmark = pytest.mark.integration

SECOND = 1_000_000
HOUR = 3_600 * SECOND
JANUARY, FEBRUARY, MARCH = 0, 31 * DAY_US, 59 * DAY_US
FocusRow = dict[str, str]
ALL = Selection()
PARTIES = Parties("Group IT", "cc-4711", "Search", "ML Platform", "Example Cloud")


@dataclass
class Office:
    """A ledger and the files that leave it."""

    books: Bookkeeping
    engine: Engine
    exports: Exports
    folder: Path

    def focus(self, selection: Selection = ALL, version: Version = "1.4") -> list[FocusRow]:
        """The charges as the rows of a CSV file."""
        self.file = self.folder / "focus.csv"
        self.done: Exported = self.exports.focus(selection, version, self.file, "csv")
        with self.file.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def ledger_nano(self) -> int:
        """What the supply gave, from the balances."""
        return -self.books.roles("nUSD")["supply"]

    def price(self, price_id: str, nano: int, **fields: Any) -> None:
        """Declare one more price."""
        row = {"price_id": price_id, "sku": price_id, "kind": "on_demand", "currency": "USD",
               "unit": "device_hour", "price_nano": nano, "valid_from_us": 0, "recorded_us": 0,
               "source": "test", **fields}  # fmt: skip
        with self.engine.begin() as connection:
            connection.execute(insert(rates.price), row)


@pytest.fixture
def office(engine: Engine, tmp_path: Path) -> Office:
    """An empty ledger with the prices and coefficients of ``Bookkeeping``."""
    books = Bookkeeping(engine, tmp_path / "spool")
    exports = Exports(
        ChargeStore(engine), books.ledger, books.catalog, books.facts, BudgetStore(engine),
        books.clock, write_table, PARTIES,
    )  # fmt: skip
    return Office(books, engine, exports, tmp_path)


def _resource(name: str = "serve/shop/0", sku: str = "gpu-hour", device: str = "gpu",
              region: str | None = "DEU", team: str | None = None) -> Resource:  # fmt: skip
    return Resource(name, "replica", device, 1, 1, sku, 0, region, team)


def _supply(start: int = 0, name: str = "serve/shop/0", energy_mj: int | None = None,
            boot: str = "boot") -> SupplyWindow:  # fmt: skip
    method: EnergyMethod = "unknown" if energy_mj is None else "metered_wall"
    return SupplyWindow(name, boot, start // HOUR, name, start, start + HOUR, HOUR,
                        energy_mj=energy_mj, energy_method=method)  # fmt: skip


def _busy(model: str, seconds: int, start: int = 0, name: str = "serve/shop/0",
          number: int = 0) -> UsageWindow:  # fmt: skip
    return UsageWindow(name, "use", 100 * (start // HOUR) + number, name, start, start + HOUR,
                       model, 1, "inference", "serve", requests=1,
                       busy_ns=seconds * 10**9)  # fmt: skip


def _shared(start: int = 0) -> list[Fact]:
    """A replica that two models share for an hour: 600 s, 300 s, the rest nobody."""
    return [_resource(), _supply(start), _busy("a", 600, start), _busy("b", 300, start, number=1)]


def _run(start: int = 0) -> list[Fact]:
    """An hour of training that has no version yet."""
    worker = Resource("train/run-1/0", "train_worker", "gpu", 1, 1, "gpu-hour", 0, "DEU")
    return [
        worker, _supply(start, worker.resource_id),
        UsageWindow("run-1", "use", 1, worker.resource_id, start, start + HOUR, "m", None,
                    "training", "train", "run-1", 1, busy_ns=2_700 * 10**9, flop=10**18),
        RunAttempt("run-1", 1, "m", "ok", start, start + HOUR),
    ]  # fmt: skip


def _version(number: int = 1, relation: Relation = "trained", parent: int | None = None,
             run_id: str = "run-1") -> ModelVersion:  # fmt: skip
    return ModelVersion("m", number, run_id, "runs:/run-1/model", "model.onnx", "d" * 64, 10,
                        "base" if parent is None else "int8", relation, Signature((), ()),
                        HOUR, parent=parent)  # fmt: skip


def _sum(rows: Sequence[FocusRow], column: str) -> Decimal:
    return sum((Decimal(row[column]) for row in rows if row[column]), Decimal(0))


def _validate(path: Path) -> int:
    command = [sys.executable, "-m", "focus_data_toolkit", "validate", str(path)]
    return subprocess.run(command, capture_output=True, timeout=60).returncode


def _check_what_the_validator_misses(rows: Sequence[FocusRow]) -> None:
    ratios: dict[str, Decimal] = defaultdict(Decimal)
    costs: dict[str, Decimal] = defaultdict(Decimal)
    origin_costs: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        inside = (row["BillingPeriodStart"] <= row["ChargePeriodStart"]
                  and row["ChargePeriodEnd"] <= row["BillingPeriodEnd"])  # fmt: skip
        assert inside is (row["ChargeClass"] != "Correction")
        if row["ChargeClass"] != "Correction" and row["ConsumedQuantity"]:
            assert Decimal(row["ConsumedQuantity"]) >= 0
        if row.get("AllocatedMethodId"):
            (element,) = json.loads(row["AllocatedMethodDetails"], parse_float=Decimal)["Elements"]
            ratio = Decimal(element["AllocatedRatio"])
            assert -int(ratio.as_tuple().exponent) <= 12
            ratios[row["x_OriginChargeId"]] += ratio
            costs[row["x_OriginChargeId"]] += Decimal(row["EffectiveCost"])
            origin_costs[row["x_OriginChargeId"]].add(row["x_OriginChargeCost"])
    assert set(ratios.values()) <= {Decimal(1)}
    for origin, cost in costs.items():
        assert {Decimal(told) for told in origin_costs[origin]} == {cost}


def _check(office: Office, rows: Sequence[FocusRow]) -> None:
    """The file is valid, and both costs sum to the ledger to the nano."""
    assert _validate(office.file) == 0
    _check_what_the_validator_misses(rows)
    total = Decimal(office.ledger_nano()).scaleb(-9)
    assert _sum(rows, "EffectiveCost") == _sum(rows, "BilledCost") == total


def test_a_focus_file_is_valid_and_sums_to_the_ledger(office: Office) -> None:
    """Training, serving, sharing, idle, a moved run: valid FOCUS 1.4, no nano lost (A18)."""
    office.books.post(*_shared(), *_run(DAY_US))
    office.books.catalog.record_version(_version())
    office.books.clock.at_us = 2 * DAY_US
    office.books.books.post()
    rows = office.focus()
    assert {row["ChargeCategory"] for row in rows} == {"Usage", "Adjustment"}
    _check(office, rows)
    assert office.done.cost_nano == office.ledger_nano()
    head = office.books.ledger.head()
    assert head is not None
    assert (office.done.ledger_seq, office.done.ledger_hash) == (head.seq, head.hash)


def test_the_validator_notices_that_effective_cost_is_missing(office: Office) -> None:
    """The check has teeth: the same file without one mandatory column fails (A18)."""
    office.books.post(*_shared())
    rows = office.focus()
    broken = office.folder / "broken.csv"
    with broken.open("w", newline="") as file:
        names = [name for name in rows[0] if name != "EffectiveCost"]
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    assert _validate(broken) == 1


def test_the_parts_of_a_shared_replica_are_told_with_their_ratios(office: Office) -> None:
    """$0.50 and $0.25 of $3 to two models; the idle remainder is allocated to nobody."""
    office.books.post(*_shared())
    rows = office.focus()
    assert {(r["AllocatedResourceId"], r["EffectiveCost"]) for r in rows} == {
        ("models:/a/1/serve", "0.5"), ("models:/b/1/serve", "0.25"), ("", "2.25"),
    }  # fmt: skip
    assert {(r["ResourceId"], r["x_OriginChargeCost"]) for r in rows} == {("serve/shop", "3")}
    details = {r["AllocatedResourceName"]: r["AllocatedMethodDetails"] for r in rows}
    assert json.loads(details["a/1 serve"], parse_float=str) == {
        "Elements": [{"AllocatedRatio": "0.166666666667", "UsageUnit": "Seconds",
                      "UsageQuantity": 600}]
    }  # fmt: skip
    _check(office, rows)


def test_energy_carbon_and_the_place_in_the_ledger_stand_beside_the_cost(office: Office) -> None:
    """KWh and kg are the ledger's; the hash is the chain's at the last entry of the row."""
    office.books.post(*_shared())
    row = next(r for r in office.focus() if r["x_LedgerAccount"].startswith("model:a/1"))
    assert Decimal(row["x_EnergyKwh"]) == Decimal("0.066666666667")
    carbon = office.books.balances("ugCO2e_loc")["model:a/1:inference:serve"]
    assert Decimal(row["x_CarbonLocationKgCo2e"]) == Decimal(carbon).scaleb(-9)
    assert row["x_MeasurementTier"] == "modelled_load"
    assert row["x_CarbonEmbodiedKgCo2e"] == ""
    hashes = {entry["seq"]: entry["hash"] for entry in office.books.ledger.entries()}
    assert row["x_LedgerHash"] == hashes[int(row["x_LedgerSeqTo"])]
    assert 1 <= int(row["x_LedgerSeqFrom"]) < int(row["x_LedgerSeqTo"])


def test_energy_that_nobody_knows_is_empty_not_zero(office: Office) -> None:
    """A device without a load model, a meter and a region costs money; the rest is unknown."""
    unknown = _resource(device="unlisted", region=None)
    office.books.post(unknown, _supply(), _busy("a", 600))
    for row in office.focus():
        assert row["x_EnergyKwh"] == row["x_CarbonLocationKgCo2e"] == row["RegionId"] == ""
        assert row["x_MeasurementTier"] == ""


def test_what_has_no_price_is_in_no_row_and_told(office: Office) -> None:
    """A cost that nobody knows is not 0: the time and energy are named beside the file."""
    office.books.post(_resource(sku="unlisted"), _supply(), _busy("a", 600))
    assert office.focus() == []
    assert office.done.without_cost["device_us"] == HOUR
    assert office.done.without_cost["mJ"] == 540_000_000 * 12 // 10


def test_late_usage_of_a_closed_month_is_a_correction_in_the_open_one(office: Office) -> None:
    """Both ways stand there, in the month's file that is open, on their own day (A17, A18)."""
    office.books.post(_resource(), _supply(), _busy("a", 600))
    office.books.clock.at_us = FEBRUARY + HOUR
    office.books.books.close("1970-01", "ada")
    january = office.focus(Selection("1970-01"))
    office.books.post(_busy("b", 300, number=1), *_shared(FEBRUARY)[1:])
    assert office.focus(Selection("1970-01")) == january
    rows = office.focus(Selection("1970-02"))
    _check_what_the_validator_misses(rows)
    assert _validate(office.file) == 0
    corrections = [r for r in rows if r["ChargeClass"] == "Correction"]
    assert {r["ChargePeriodStart"] for r in corrections} == {"1970-01-01T00:00:00Z"}
    assert {r["BillingPeriodStart"] for r in corrections} == {"1970-02-01T00:00:00Z"}
    assert _sum(corrections, "EffectiveCost") == 0
    assert _sum(corrections, "ConsumedQuantity") == 0
    assert {Decimal(r["EffectiveCost"]) > 0 for r in corrections} == {True, False}
    everything = office.focus()
    _check(office, everything)
    assert len(everything) == len(january) + len(rows)


def test_a_correction_inside_an_open_month_nets_and_is_no_correction(office: Office) -> None:
    """Usage that came late, but before the month was closed, is a charge like any other."""
    office.books.post(_resource(), _supply(), _busy("a", 600))
    office.books.post(_busy("b", 300, number=1))
    rows = office.focus()
    _check(office, rows)
    assert {row["ChargeClass"] for row in rows} == {""}
    assert all(Decimal(row["EffectiveCost"]) > 0 for row in rows)


def test_a_closed_month_that_is_valued_anew_is_corrected_in_cost_alone(office: Office) -> None:
    """A price found out later: the old cost goes, the new one comes, nothing is consumed twice."""
    office.books.post(*_shared())
    office.books.clock.at_us = FEBRUARY + HOUR
    office.books.books.close("1970-01", "ada")
    office.price("dearer", 4 * 10**9, sku="gpu-hour", recorded_us=FEBRUARY)
    office.books.books.value_anew(0, FEBRUARY)
    rows = office.focus(Selection("1970-02"))
    _check_what_the_validator_misses(rows)
    assert _validate(office.file) == 0
    assert {row["ChargeClass"] for row in rows} == {"Correction"}
    assert {row["ConsumedQuantity"] for row in rows} == {""}
    by_price = {row["SkuPriceId"]: _sum([r for r in rows if r["SkuPriceId"] == row["SkuPriceId"]],
                                        "EffectiveCost") for row in rows}  # fmt: skip
    assert (by_price.pop("dearer"), list(by_price.values())) == (Decimal(4), [Decimal(-3)])
    _check(office, office.focus())


def test_a_reversed_charge_is_in_no_file(office: Office) -> None:
    """Charged and taken back in the same open month: nothing is left to pay."""
    office.books.post(*_shared())
    (batch,) = [b for b in office.books.ledger.batches("serve/shop/0@0")
                if b.method_id == "valuation"]  # fmt: skip
    office.books.books.reverse(batch.batch_id, "a test", "ada")
    assert office.focus() == []
    assert office.done.cost_nano == 0


def test_two_prices_in_a_day_are_two_rows_with_their_own_time(office: Office) -> None:
    """$2 until noon and $3 after it: 12 hours each, and energy follows time, not money."""
    office.price("before", 2 * 10**9, sku="changing")
    office.price("after", 3 * 10**9, sku="changing", valid_from_us=12 * HOUR)
    office.books.clock.at_us = DAY_US
    hours = [f for n in range(24) for f in (_supply(n * HOUR), _busy("a", 3_600, n * HOUR))]
    office.books.post(_resource(sku="changing"), *hours)
    rows = office.focus()
    _check(office, rows)
    assert {(r["SkuPriceId"], r["EffectiveCost"], r["PricingQuantity"], r["ConsumedQuantity"],
             r["x_EnergyKwh"]) for r in rows} == {
        ("before", "24", "12", "43200", "4.8"), ("after", "36", "12", "43200", "4.8"),
    }  # fmt: skip


def _reserved(office: Office) -> None:
    office.price("year", 10**9, kind="reserved")
    reservation = Resource("reservation/year/0", "reservation", "gpu", 1, 1, "year", 0, "DEU")
    office.books.clock.at_us = 4 * HOUR
    office.books.post(reservation, _resource(sku="year"), _supply(), _busy("a", 900))


def test_a_reservation_is_bought_used_and_partly_unused(office: Office) -> None:
    """The purchase bills and has no effective cost; its use has one and bills nothing (A18)."""
    _reserved(office)
    rows = office.focus()
    _check(office, rows)
    kind = ("ChargeCategory", "CommitmentDiscountStatus", "x_LedgerAccount")
    told = ("BilledCost", "EffectiveCost", "ConsumedQuantity")
    found = {tuple(r[name] for name in kind): tuple(r[name] for name in told) for r in rows}
    unused = ("Usage", "Unused", "idle:reservation/year")
    assert found.pop(("Purchase", "", "")) == ("2", "0", "")
    assert found.pop(unused) == ("0", "1", "")
    assert {key[:2] for key in found} == {("Usage", "Used")}
    assert {cells[0] for cells in found.values()} == {"0"}
    assert sum(Decimal(cells[1]) for cells in found.values()) == 1


def test_a_run_s_cost_that_moved_to_its_version_is_an_adjustment(office: Office) -> None:
    """What was charged stays in the file; the move is two more rows that sum to nothing."""
    office.books.post(*_run())
    before = office.focus()
    office.books.catalog.record_version(_version())
    office.books.books.post()
    rows = office.focus()
    _check(office, rows)
    moved = [r for r in rows if r["ChargeCategory"] == "Adjustment"]
    assert _sum(moved, "EffectiveCost") == 0
    assert _sum(moved, "x_EnergyKwh") == 0
    assert [r for r in rows if r not in moved] == before
    mine = [r for r in rows if r["ResourceId"] == "models:/m/1"]
    assert _sum(mine, "EffectiveCost") == 3
    assert json.loads(mine[0]["Tags"])["variant"] == "base"


def test_a_selection_has_the_ledger_s_total_for_it(office: Office) -> None:
    """By month, by days, by model: each file sums to what the ledger holds for just that."""
    office.books.clock.at_us = MARCH
    office.books.post(*_shared(), *_shared(DAY_US)[1:], *_shared(FEBRUARY)[1:])
    assert _sum(office.focus(Selection("1970-02")), "BilledCost") == 3
    assert _sum(office.focus(Selection(first_day=1, last_day=1)), "BilledCost") == 3
    assert _sum(office.focus(Selection(first_day=1)), "BilledCost") == 6
    only_a = office.focus(Selection(model="a"))
    assert _sum(only_a, "BilledCost") == Decimal("1.5")
    assert {r["AllocatedResourceId"] for r in only_a} == {"models:/a/1/serve"}
    assert office.focus(Selection("1970-03")) == []


def test_the_team_that_owned_a_model_on_the_day_is_the_sub_account(office: Office) -> None:
    """Chargeback follows ownership day by day."""
    office.books.clock.at_us = 3 * DAY_US
    office.books.post(_resource(), _supply(), _busy("a", 60), _supply(2 * DAY_US),
                      _busy("a", 60, 2 * DAY_US))  # fmt: skip
    BudgetStore(office.engine).own(Ownership("a", "search", DAY_US, DAY_US))
    teams = {(r["ChargePeriodStart"], r["SubAccountId"]) for r in office.focus()}
    assert teams == {("1970-01-01T00:00:00Z", ""), ("1970-01-03T00:00:00Z", "search")}


@pytest.mark.parametrize("name", ["=1+1", "+cmd", "-2", "@SUM(A1)", "\tx"])
def test_a_name_that_is_a_formula_does_not_reach_a_spreadsheet_as_one(
    office: Office, name: str
) -> None:
    """A SKU's name comes from people; numbers keep their sign and the file stays valid."""
    office.price(name, 10**9)
    team = f"{name}-team"
    office.books.post(_resource(sku=name, team=team), _supply(), _busy("a", 600))
    rows = office.focus()
    assert {row["SkuId"] for row in rows} == {f"'{name}"}
    assert {row["SubAccountId"] for row in rows} == {f"'{team}"}
    _check(office, rows)


def test_a_negative_amount_is_not_taken_for_a_formula(office: Office) -> None:
    """Only names are guarded: a reversal's cost stays a number."""
    office.books.post(*_run())
    office.books.catalog.record_version(_version())
    office.books.books.post()
    assert any(row["EffectiveCost"].startswith("-") for row in office.focus())
    _check(office, office.focus())


def test_parquet_says_what_csv_says_in_exact_decimals(office: Office) -> None:
    """The same rows; costs are decimals, not floats; the validator accepts that file, too."""
    office.books.post(*_shared(), *_run(DAY_US))
    texts = office.focus()
    path = office.folder / "focus.parquet"
    done = office.exports.focus(ALL, "1.4", path, "parquet")
    table = parquet.read_table(path)
    assert done.rows == table.num_rows == len(texts)
    assert str(table.schema.field("EffectiveCost").type) == "decimal128(38, 9)"
    for row, shown in zip(table.to_pylist(), texts, strict=True):
        for name, value in row.items():
            if isinstance(value, datetime):
                assert value.utcoffset() == timedelta(0)
                assert f"{value:%Y-%m-%dT%H:%M:%SZ}" == shown[name]
            elif isinstance(value, Decimal):
                assert value == Decimal(shown[name])
            else:
                assert ("" if value is None else str(value)) == shown[name]
    assert _validate(path) == 0


@pytest.mark.parametrize(
    ("version", "there", "gone"),
    [
        ("1.2", {"ProviderName", "PublisherName"}, {"HostProviderName", "AllocatedMethodId"}),
        ("1.3", {"ProviderName", "HostProviderName", "AllocatedMethodId"}, set()),
        ("1.4", {"ServiceProviderName", "AllocatedMethodId"}, {"ProviderName", "PublisherName"}),
    ],
)
def test_each_version_of_focus_has_its_columns(
    office: Office, version: Version, there: set[str], gone: set[str]
) -> None:
    """Our own columns come last; the sums are the same whatever the version."""
    office.books.post(*_shared())
    rows = office.focus(version=version)
    names = list(rows[0])
    assert there <= set(names)
    assert not gone & set(names)
    own = [name.startswith("x_") for name in names]
    assert own == sorted(own)
    assert _sum(rows, "EffectiveCost") == 3


def test_an_export_that_fails_leaves_the_file_that_was_there(office: Office) -> None:
    """Half a file would look like a cheaper month."""
    office.books.post(*_shared())
    office.focus()
    before = office.file.read_bytes()

    def failing() -> Iterator[dict[str, str]]:
        yield {"SkuId": "first"}
        raise InvalidInput("the database went away")

    with pytest.raises(InvalidInput):
        write_table(office.file, "csv", [], failing())
    assert office.file.read_bytes() == before
    assert [p.name for p in office.folder.iterdir() if p.name.endswith(".part")] == []


def test_charges_that_do_not_make_the_ledger_s_total_make_no_file(office: Office) -> None:
    """Somebody with the owner's rights hid an account: the sum betrays it before it is filed."""
    office.books.post(*_shared())
    with office.engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            names = "select name from sqlite_master where type = 'trigger' and tbl_name = 'account'"
            for name in connection.execute(text(names)).scalars().all():
                connection.execute(text(f"drop trigger {name}"))
        else:
            connection.execute(text("alter table account disable trigger user"))
        connection.execute(text("update account set role = 'pool' where model = 'a'"))
    with pytest.raises(SteelyardError, match="2500000000 nano-USD, the ledger to 3000000000"):
        office.focus()
    assert not office.file.exists()


def test_the_file_of_entries_can_be_checked_by_itself(office: Office) -> None:
    """Whoever has only the CSV can recompute every hash."""
    office.books.post(*_shared(), *_run(DAY_US))
    path = office.folder / "entries.csv"
    done = office.exports.entries(path, "csv")
    integers = ("seq", "v", "amount", "period_start_us", "period_end_us", "recorded_us")
    previous = GENESIS
    with path.open(newline="") as file:
        lines = csv.DictReader(file)
        assert set(lines.fieldnames or ()) == set(next(office.books.ledger.entries()))
        for line in lines:
            row: dict[str, Any] = {name: value or None for name, value in line.items()}
            row |= {name: int(line[name]) for name in integers}
            row["coef_ids"] = line["coef_ids"].split()
            row["reverses_seq"] = int(line["reverses_seq"]) if line["reverses_seq"] else None
            previous = link(previous, hashed_row(row))
            assert previous == line["hash"]
    assert done.ledger_hash == previous


def _registered(office: Office) -> None:
    """A trained version, and a fine-tuned one made of it in a run of its own."""
    office.books.post(*_run())
    office.books.catalog.record_version(_version())
    office.books.catalog.record_version(_version(2, "finetuned", 1, "run-2"))
    worker = Resource("train/run-2/0", "train_worker", "gpu", 1, 1, "gpu-hour", 0, "DEU")
    office.books.post(
        worker, _supply(0, worker.resource_id, energy_mj=500_000_000),
        UsageWindow("run-2", "use", 1, worker.resource_id, 0, HOUR, "m", None, "training",
                    "train", "run-2", 1, busy_ns=3_600 * 10**9),
        _resource("serve/m/1/0"), _supply(0, "serve/m/1/0"), _busy("m", 600, 0, "serve/m/1/0"),
    )  # fmt: skip


def test_an_spdx_document_tells_each_stage_s_energy_and_how_it_was_found(office: Office) -> None:
    """Megajoules to the millijoule; the parent's energy is the parent's, named by descent."""
    _registered(office)
    document = office.exports.spdx("m")
    graph = {e["spdxId"]: e for e in document["@graph"] if "spdxId" in e}
    first, second = graph["urn:steelyard:models:m:1"], graph["urn:steelyard:models:m:2"]
    trained = sum(office.books.balances("mJ")[path] for path in
                  ("model:m/1:training:train", "idle:model:m/1:training"))  # fmt: skip
    (quantity,) = first["ai_energyConsumption"]["ai_trainingEnergyConsumption"]
    assert quantity["ai_energyUnit"] == "megajoule"
    assert Decimal(quantity["ai_energyQuantity"]) == Decimal(trained).scaleb(-9)
    assert "ai_inferenceEnergyConsumption" in first["ai_energyConsumption"]
    assert list(second["ai_energyConsumption"]) == ["type", "ai_finetuningEnergyConsumption"]
    assert "measured (metered_wall ±2 %)" in second["comment"]
    assert "estimated (modelled_load ±50 %)" in first["comment"]
    assert "inference unknown" in second["comment"]
    descent = next(e for e in document["@graph"] if e["type"] == "Relationship")
    assert (descent["from"], descent["to"]) == (second["spdxId"], [first["spdxId"]])


def test_a_report_for_annex_xi_keeps_unknown_flops_unknown(office: Office) -> None:
    """FLOPs, time, energy with method; ancestors beside, and no all-clear without all figures."""
    _registered(office)
    first, second = office.exports.annex_xi("m")["versions"]
    assert (first["training_flop"], first["training_flop_complete"]) == (10**18, True)
    assert (first["training_device_us"], first["training_wall_us"]) == (HOUR, HOUR)
    assert first["systemic_risk"]["state"] == "below"
    assert first["training_energy"]["status"] == "estimated"
    assert second["training_flop"] is None
    assert second["ancestors"] == ["m/1"]
    assert second["ancestors_training_flop"] == 10**18
    assert second["systemic_risk"]["state"] == "unknown"
    assert second["training_energy"]["energy_mj"] == 500_000_000
    assert second["training_energy"]["methods"][0]["method"] == "metered_wall"
    assert second["inference_energy"]["energy_mj"] is None


def test_a_model_that_nobody_registered_has_no_dossier(office: Office) -> None:
    """A typing error is told, not answered with an empty document."""
    with pytest.raises(NotFound):
        office.exports.spdx("nobody")
