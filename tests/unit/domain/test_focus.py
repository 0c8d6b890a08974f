"""Charges as FOCUS rows: exact, netted where nothing is closed, and nothing lost on the way."""

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.charge import (
    DAY_US,
    WHOLE,
    BillingPeriod,
    Charge,
    Movement,
    Origin,
    day_charges,
)
from steelyard.domain.cost import Price
from steelyard.domain.energy_summary import Stage, earliest_of_runs
from steelyard.domain.errors import InvalidInput
from steelyard.domain.focus import PRICING, Parties, Reference, rows
from steelyard.domain.focus_columns import Version, columns, parse_version
from steelyard.domain.ledger import Account, Unit
from steelyard.domain.metering import EnergyMethod
from steelyard.domain.table import exact, form_of, moment, plain, rounded

MONTH = BillingPeriod("1970-02", 31 * DAY_US, 59 * DAY_US)
SHOP = Origin("serve/shop", "replica", "DEU")
A = Account("model:a/1:inference:serve", "consumer", "inference", "a", 1, "serve")
B = Account("model:b/1:inference:serve", "consumer", "inference", "b", 1, "serve")
IDLE = Account("idle:serve/shop", "idle")
PRICES = {
    "day": Price("day", "gpu", "USD", 3_000_000_000, 0, 0),
    "night": Price("night", "gpu", "USD", 2_000_000_000, 0, 0),
    "third": Price("third", "gpu", "USD", 300_000_000_001, 0, 0),
    "year": Price("year", "gpu-year", "USD", 1_000_000_000, 0, 0, kind="reserved"),
}
UNIT_PRICES = {price_id: price.price_nano for price_id, price in PRICES.items()}
PARTIES = Parties("Group IT", "cc-4711", "Search", "ML Platform", "Example Cloud")
REFERENCE = Reference(PRICES, {("a", 1): "int8"}, {"a": "search"}, PARTIES)


def moved(
    amount: int, unit: Unit = "nUSD", account: Account = A, price: str | None = "day",
    seq: int = 1, day: int = 31, origin: Origin | None = SHOP, tier: EnergyMethod | None = None,
) -> Movement:  # fmt: skip
    """A sum of entries of February; day 30 is in January."""
    price_id = price if unit == "nUSD" else None
    return Movement(MONTH, day, origin, account, unit, amount, seq, seq, f"hash-{seq}", price_id,
                    tier)  # fmt: skip


def charges(*movements: Movement) -> tuple[Charge, ...]:
    """The charges of one day."""
    return day_charges(movements, UNIT_PRICES).charges


def focus(*movements: Movement, version: Version = "1.4") -> list[dict[str, Any]]:
    """Its rows."""
    return list(rows(charges(*movements), REFERENCE, version))


def test_a_charge_and_its_reversal_in_the_same_month_cancel() -> None:
    """Nothing was closed in between, so nothing is left to tell."""
    assert charges(moved(500, seq=1), moved(-500, seq=2)) == ()


def test_what_stays_after_a_reposting_is_one_charge_over_all_its_entries() -> None:
    """Charged, taken back, charged right: one row, with the range of entries behind it."""
    (one,) = charges(moved(500, seq=3), moved(-500, seq=7), moved(200, seq=9))
    assert (one.cost_nano, one.first_seq, one.last_seq, one.last_hash) == (200, 3, 9, "hash-9")
    assert not one.correction


def test_after_the_close_a_reversal_and_its_successor_stand_side_by_side() -> None:
    """January's file is out, so February tells both, each with its sign (A17, A18)."""
    found = focus(moved(-500, day=30, seq=7), moved(200, day=30, seq=9))
    assert {(r["ChargeClass"], r["EffectiveCost"]) for r in found} == {
        ("Correction", Decimal("-5E-7")), ("Correction", Decimal("2E-7")),
    }  # fmt: skip
    assert {r["ChargePeriodStart"] for r in found} == {moment(30 * DAY_US)}
    assert {r["BillingPeriodStart"] for r in found} == {moment(31 * DAY_US)}


def test_energy_and_time_follow_the_time_that_each_price_was_paid_for() -> None:
    """$3 for an hour by day, $4 for two by night at $2: a third and two thirds, to the unit."""
    found = charges(
        moved(3_000_000_000), moved(4_000_000_000, price="night"),
        moved(10_000_000, "mJ", tier="modelled_load"), moved(3 * 3_600_000_000, "device_us"),
    )  # fmt: skip
    assert {(c.price_id, c.energy_mj, c.device_us) for c in found} == {
        ("day", 3_333_333, 3_600_000_000), ("night", 6_666_667, 7_200_000_000),
    }  # fmt: skip


def test_the_weakest_method_names_the_energy_of_a_row() -> None:
    """A part that was modelled makes the sum an estimate."""
    (one,) = charges(
        moved(5), moved(7, "mJ", tier="metered_wall"), moved(8, "mJ", tier="modelled_load")
    )
    assert (one.energy_mj, one.tier) == (15, "modelled_load")


def test_what_was_not_posted_is_none() -> None:
    """No entry of energy, carbon or time: unknown, not 0."""
    (one,) = charges(moved(5))
    assert (one.energy_mj, one.carbon_ug, one.embodied_ug, one.device_us) == (None,) * 4


def test_use_without_a_cost_is_set_aside_by_unit() -> None:
    """It cannot be a row of a bill, and it is not forgotten."""
    day = day_charges([moved(7, "device_us"), moved(9, "mJ"), moved(-9, "mJ")], UNIT_PRICES)
    assert (day.charges, day.without_cost) == ((), {"device_us": 7})


def test_shares_of_a_shared_resource_have_twelve_decimals_and_make_one() -> None:
    """A third each would lose a part in 10^12; the largest remainder keeps it (A18)."""
    c = Account("model:c/1:inference:serve", "consumer", "inference", "c", 1, "serve")
    found = charges(*(moved(1_000, account=one) for one in (A, B, c)))
    shares = [one.split.share for one in found if one.split]
    assert sorted(shares) == [333_333_333_333, 333_333_333_333, 333_333_333_334]
    assert sum(shares) == WHOLE


def test_a_resource_of_one_model_is_not_split() -> None:
    """Its idle time is the model's own, so there is nothing to allocate."""
    idle = Account("idle:model:a/1:inference", "idle", "inference", "a", 1)
    assert [c.split for c in charges(moved(500), moved(100, account=idle))] == [None, None]


def test_rows_of_a_shared_resource_agree_in_every_dimension_of_the_whole() -> None:
    """As the specification asks: whom a part is for stands in the Allocated columns only."""
    found = focus(moved(500), moved(200, account=B), moved(300, account=IDLE))
    for name in ("ResourceId", "ServiceName", "SubAccountId", "Tags", "ChargeDescription",
                 "SkuPriceId", "ListUnitPrice", "ChargeCategory"):  # fmt: skip
        assert len({row.get(name) for row in found}) == 1
    assert {row["AllocatedResourceId"] for row in found} == {
        "models:/a/1/serve", "models:/b/1/serve", None,
    }  # fmt: skip
    tags = {row["AllocatedResourceName"]: row["AllocatedTags"] for row in found}
    assert json.loads(tags["a/1 serve"])["team"] == "search"
    assert tags[None] is None


@pytest.mark.parametrize("version", get_args(Version))
def test_every_row_names_who_charges_whom_and_for_whom(version: Version) -> None:
    """Usage, adjustments and purchases alike; before 1.4 the provider has two other names."""
    found = focus(
        moved(500), moved(7, price=None), moved(9, price="year", seq=2), version=version
    )  # fmt: skip
    named = {"InvoiceIssuerName": "Group IT", "BillingAccountId": "cc-4711",
             "BillingAccountName": "Search", "ServiceProviderName": "ML Platform",
             "ProviderName": "ML Platform", "PublisherName": "ML Platform",
             "HostProviderName": "Example Cloud"}  # fmt: skip
    assert {row["ChargeCategory"] for row in found} == {"Usage", "Adjustment", "Purchase"}
    for row in found:
        assert {name: row[name] for name in named} == named


def test_focus_1_2_knows_no_split_and_names_the_models_themselves() -> None:
    """Without Allocated columns, each part is a resource of its own."""
    found = focus(moved(500), moved(300, account=IDLE), version="1.2")
    assert {row["ResourceId"] for row in found} == {"models:/a/1", "serve/shop"}
    assert not any("AllocatedMethodId" in row for row in found)


def test_list_cost_is_unit_price_times_quantity_also_when_the_hours_do_not_end() -> None:
    """Ten seconds are 1/360 hour: the quantity has 15 decimals, the product is the cost."""
    (row,) = focus(moved(833_333_333, price="third"))
    product = Fraction(row["ListUnitPrice"]) * Fraction(row["PricingQuantity"])
    assert row["ListCost"] == row["EffectiveCost"] == Decimal("0.833333333")
    assert abs(product - Fraction(row["ListCost"])) < Fraction(1, 10**9)


def test_a_reservation_s_purchase_bills_what_its_use_is_worth() -> None:
    """Σ billed = Σ effective; the part that nothing ran on is marked and consumed nothing (A18)."""
    reservation = Origin("reservation/gpu-year", "reservation", "DEU")
    unused = Account("idle:reservation/gpu-year", "idle")
    found = focus(
        moved(700, price="year"), moved(100, account=IDLE, price="year"),
        moved(200, account=unused, price="year", origin=reservation),
        moved(3_600, "device_us", account=unused, origin=reservation),
    )  # fmt: skip
    told = {(r["ChargeCategory"], r.get("CommitmentDiscountStatus"), r["BilledCost"],
             r["EffectiveCost"], r["PricingCategory"]) for r in found}  # fmt: skip
    assert told == {
        ("Usage", "Used", Decimal(0), Decimal("7E-7"), "Committed"),
        ("Usage", "Used", Decimal(0), Decimal("1E-7"), "Committed"),
        ("Usage", "Unused", Decimal(0), Decimal("2E-7"), "Committed"),
        ("Purchase", None, Decimal("0.000001"), Decimal(0), "Standard"),
    }  # fmt: skip
    (idle,) = (r for r in found if r.get("CommitmentDiscountStatus") == "Unused")
    assert "ConsumedQuantity" not in idle


def test_moved_cost_is_an_adjustment_without_a_price() -> None:
    """It was charged before; here it only changes hands."""
    run = Account("model:a:training:run/r:train", "consumer", "training", "a", None, "train", "r")
    found = focus(
        moved(-500, account=run, price=None, origin=None),
        moved(500, account=A, price=None, origin=None),
    )  # fmt: skip
    assert {row["ChargeCategory"] for row in found} == {"Adjustment"}
    assert {row["ResourceId"] for row in found} == {"runs:/r", "models:/a/1"}
    assert not any("SkuPriceId" in row or "PricingQuantity" in row for row in found)


@pytest.mark.parametrize(
    ("activity", "service"),
    [
        ("train", "Model Training"), ("compress", "Model Compression"),
        ("evaluate", "Model Evaluation"), ("serve", "Model Serving"), ("warmup", "Model Serving"),
    ],
)  # fmt: skip
def test_the_service_says_what_the_time_was_spent_on(activity: Any, service: str) -> None:
    """Finance sees training, serving, compression and evaluation apart."""
    account = Account(f"model:a/1:x:{activity}", "consumer", "training", "a", 1, activity)
    (row,) = focus(moved(5, account=account))
    assert (row["ServiceName"], row["ServiceCategory"]) == (service, "AI and Machine Learning")


def test_every_kind_of_price_has_a_pricing_category() -> None:
    """No price in the book stops an export."""
    kinds = get_args(Price.__dataclass_fields__["kind"].type)
    assert set(PRICING) == set(kinds)


def test_no_row_has_a_cell_without_a_column() -> None:
    """What a row says in any version is in that version's file."""
    movements = (
        moved(500), moved(200, account=B), moved(300, account=IDLE), moved(100, price="year"),
        moved(-5, day=30), moved(7, price=None, origin=None), moved(9, "mJ", tier="nameplate"),
    )  # fmt: skip
    dropped = {"1.2": {"ServiceProviderName", "HostProviderName"}, "1.3": set(),
               "1.4": {"ProviderName", "PublisherName"}}  # fmt: skip
    for version in get_args(Version):
        names = {column.name for column in columns(version)}
        said = {name for row in focus(*movements, version=version) for name in row}
        assert said - names == dropped[version]


def test_a_version_that_is_not_known_is_refused() -> None:
    """1.0 has other columns; a file that only looks like it would be worse."""
    with pytest.raises(InvalidInput, match=r"1\.0"):
        parse_version("1.0")


amounts = st.integers(1, 10**15)


@given(
    st.lists(
        st.tuples(st.sampled_from([A, B, IDLE]), st.sampled_from(["day", "night", "third"]),
                  amounts),
        min_size=1, max_size=8,
    ),
    st.lists(st.tuples(st.sampled_from([A, B, IDLE]), amounts), max_size=5),
)  # fmt: skip
def test_nothing_is_lost_between_entries_and_rows(
    costs: list[tuple[Account, str, int]], energy: list[tuple[Account, int]]
) -> None:
    """Cost to the nano, energy to the millijoule, shares to the last of 10^12 parts."""
    day = day_charges(
        [moved(n, account=a, price=p) for a, p, n in costs]
        + [moved(n, "mJ", account=a, tier="modelled_load") for a, n in energy],
        UNIT_PRICES,
    )
    found: list[dict[str, Any]] = list(rows(day.charges, REFERENCE, "1.4"))
    total = exact(sum(n for _, _, n in costs), 9)
    assert sum(row["EffectiveCost"] for row in found) == total
    assert sum(row["BilledCost"] for row in found) == total
    known = sum(c.energy_mj or 0 for c in day.charges) + day.without_cost.get("mJ", 0)
    assert known == sum(n for _, n in energy)
    groups: dict[str, int] = {}
    for one in day.charges:
        if one.split:
            groups[one.split.origin_id] = groups.get(one.split.origin_id, 0) + one.split.share
    assert set(groups.values()) <= {WHOLE}


@given(st.integers(-(10**30), 10**30))
def test_a_decimal_keeps_every_digit_of_a_whole_number(amount: int) -> None:
    """Thirty digits exceed the precision that arithmetic on decimals rounds to."""
    value = exact(amount, 9)
    assert Fraction(value) == Fraction(amount, 10**9)
    assert Fraction(plain(value)) == Fraction(amount, 10**9)
    assert "E" not in plain(value)


def test_a_kilowatt_hour_is_rounded_far_below_a_millijoule() -> None:
    """KWh do not end in decimal; twelve places give each millijoule back."""
    for mj in (1, 2, 999_999_999, 3_600_000_001):
        kwh = rounded(Fraction(mj, 3_600_000_000), 12)
        assert round(Fraction(kwh) * 3_600_000_000) == mj


@pytest.mark.parametrize(("name", "as_json"), [("a.xlsx", False), ("a", False), ("a.csv", True)])
def test_a_file_whose_name_says_no_form_is_refused(name: str, as_json: bool) -> None:
    """Nobody gets CSV in a file that is called a workbook."""
    with pytest.raises(InvalidInput, match=name):
        form_of(name, as_json)


def test_what_energy_is_called_depends_on_how_all_of_it_was_found() -> None:
    """One modelled part makes the whole partly measured; nothing known is unknown."""
    assert Stage(None, {}).status == "unknown"
    assert Stage(None, {}).energy_mj is None
    assert Stage(1, {"metered_wall": 5, "counter_cpu": 4}).status == "measured"
    assert Stage(1, {"modelled_load": 5}).status == "estimated"
    assert Stage(1, {"metered_wall": 5, "modelled_load": 4}).status == "partly measured"


def test_a_run_that_made_two_versions_counts_for_the_first() -> None:
    """Its FLOPs were spent once."""
    assert earliest_of_runs([("r", 3), ("r", 2), ("s", 4)]) == {"r": 2, "s": 4}
