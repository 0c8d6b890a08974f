"""The price book and the coefficients in the database: what ships, and that nothing changes."""

from fractions import Fraction
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select

from steelyard.adapters.sql import catalog as shipped
from steelyard.adapters.sql.catalog import CatalogStore
from steelyard.adapters.sql.tables import rates
from steelyard.domain.catalog_cells import KINDS, moment_us
from steelyard.domain.compute import PEAK_DATATYPES
from steelyard.domain.cost import price_at
from steelyard.domain.errors import Conflict, InvalidInput
from steelyard.domain.metering import Resource, SupplyWindow
from steelyard.domain.posting import idle_account, window_transfers
from steelyard.domain.rate_book import RateBook
from steelyard.services.catalogs import Catalogs

pytestmark = pytest.mark.integration

NOW = moment_us("2026-11-21T08:00Z")
MINUTE = 60_000_000
HOUR = 60 * MINUTE
PRICES = "sku,kind,price,valid_from,source\n"
COEFFICIENTS = "kind,key,value,unit,source,licence,valid_from\n"


class Clock:
    """A clock that stands where the test puts it."""

    def __init__(self) -> None:
        self.at_us = NOW

    def now_us(self) -> int:
        """The moment the test chose."""
        return self.at_us


@pytest.fixture
def clock() -> Clock:
    """The clock of the catalogs."""
    return Clock()


@pytest.fixture
def store(engine: Engine) -> CatalogStore:
    """A database with what ships."""
    made = CatalogStore(engine)
    made.load_shipped(NOW - HOUR)
    return made


@pytest.fixture
def catalogs(store: CatalogStore, clock: Clock) -> Catalogs:
    """The use cases on it."""
    return Catalogs(store, clock)


def rows(engine: Engine) -> list[object]:
    """Every row of both tables, to compare."""
    with engine.begin() as connection:
        return [
            tuple(row)
            for table in (rates.price, rates.coefficient)
            for row in connection.execute(select(table).order_by(*table.primary_key))
        ]


def dollars(store: CatalogStore, sku: str, at_us: int, as_of_us: int) -> Fraction | None:
    """What a device-hour costs, or None."""
    book = store.rate_book(as_of_us)
    found = price_at(book.prices(sku), sku, at_us, as_of_us)
    return Fraction(found.price_nano, 10**9) if found else None


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("device_tdp_w", "b200", "1000"), ("peak_flops", "h100-sxm/bf16", "989e12"),
        ("peak_flops", "v100-sxm2-32gb/fp16", "125e12"), ("peak_flops", "mi300x/bf16", "1307e12"),
        ("device_idle_w", "l4", "7.2"), ("device_max_w", "a100-pcie-40gb", "250"),
        ("device_memory_gb", "h200-sxm", "141"), ("device_max_w", "cascade-lake-vcpu", "3.97"),
        ("device_idle_w", "epyc-3-vcpu", "0.445"), ("grid_ci", "DEU", "380.95"),
        ("grid_ci", "US-VA", "244.8"), ("grid_ci", "gcp/us-east1", "560"),
        ("pue", "provider/aws", "1.135"), ("pue", "industry", "1.58"),
        ("embodied_kg", "h100-sxm", "575.1"), ("embodied_kg", "mi300x", "150"),
        ("embodied_kg", "server", "900"), ("lifespan_h", "default", "35040"),
    ],
)  # fmt: skip
def test_the_published_figures_are_there(kind: str, key: str, value: str) -> None:
    """The shipped tables hold the figures of their sources, digit by digit."""
    found = [r for r in shipped.shipped_coefficients() if (r.kind, r.key) == (kind, key)]
    assert [Fraction(r.value) for r in found] == [Fraction(value)]


def test_every_shipped_figure_says_where_it_is_from() -> None:
    """Source, licence and unit on each row; an assumption and an unconfirmed figure say so."""
    figures = shipped.shipped_coefficients()
    assert len({(r.kind, r.key) for r in figures}) == len(figures)
    for row in figures:
        assert row.source and row.licence and row.unit == KINDS[row.kind].unit
        assert row.valid_from_us == 0
        if row.kind == "device_idle_w" and "vcpu" not in row.key:
            assert row.source.startswith("assumed, 10 % of the rated power")
    unconfirmed = {(r.kind, r.key) for r in figures if "from memory, unconfirmed" in r.source}
    assert unconfirmed == {
        ("peak_flops", "l4/bf16"), ("peak_flops", "l4/fp16"), ("peak_flops", "a10g/bf16"),
        ("peak_flops", "a10g/fp16"), ("embodied_kg", "h100-sxm"),
    }  # fmt: skip


def test_every_shipped_device_is_complete_and_every_zone_leads_to_a_grid() -> None:
    """A device has watts, memory, peak and embodied carbon; a cloud region has an intensity."""
    figures = {(r.kind, r.key): r.value for r in shipped.shipped_coefficients()}
    devices = {key for kind, key in figures if kind == "device_tdp_w"}
    assert len(devices) == 14
    for device in devices:
        idle, most = (Fraction(figures[(k, device)]) for k in ("device_idle_w", "device_max_w"))
        assert idle * 10 == most == Fraction(figures[("device_tdp_w", device)])
        assert ("device_memory_gb", device) in figures and ("embodied_kg", device) in figures
        assert any(("peak_flops", f"{device}/{dtype}") in figures for dtype in PEAK_DATATYPES)
    zones = {value for (kind, _), value in figures.items() if kind == "grid_zone"}
    assert zones and all(("grid_ci", zone) in figures for zone in zones)


def test_shipped_rows_appear_once_and_a_new_version_adds_only_what_is_new(engine: Engine) -> None:
    """Every start asks; only the rows that this Steelyard brings for the first time are added."""
    store = CatalogStore(engine)
    total = len(shipped.shipped_prices()) + len(shipped.shipped_coefficients())
    older = [r for r in shipped.shipped_coefficients() if r.kind != "embodied_kg"]
    store.declare(older, NOW - HOUR)
    assert store.load_shipped(NOW) == total - len(older)
    before = rows(engine)
    assert store.load_shipped(NOW + HOUR) == 0
    assert rows(engine) == before


def test_a_price_holds_from_when_it_is_valid_and_known(
    store: CatalogStore, catalogs: Catalogs, clock: Clock
) -> None:
    """Two clocks: what March cost as we knew it in April, and as we know it since May."""
    march, april = moment_us("2026-03-15"), moment_us("2026-04-15")
    clock.at_us = moment_us("2026-11-21T09:00Z")
    catalogs.import_prices(PRICES + "g,on_demand,3,2026-03-01,list", "old.csv")
    clock.at_us += HOUR
    catalogs.import_prices(PRICES + "g,on_demand,2,2026-03-01,invoice\n"
                           "g,on_demand,1,2026-04-01,invoice", "new.csv")  # fmt: skip
    assert dollars(store, "g", march, clock.at_us - HOUR) == 3
    assert dollars(store, "g", march, clock.at_us) == 2
    assert dollars(store, "g", april, clock.at_us - HOUR) == 3
    assert dollars(store, "g", april, clock.at_us) == 1
    assert dollars(store, "g", march, clock.at_us - HOUR - 1) is None
    assert dollars(store, "g", moment_us("2026-02-01"), clock.at_us) is None


def test_the_same_file_twice_adds_nothing_and_changes_nothing(
    engine: Engine, catalogs: Catalogs, clock: Clock
) -> None:
    """An import may be repeated by hand or by a job; a row keeps the moment it was first known."""
    text = PRICES + "g,spot,3,2026-03-01,list\nh,spot,4,2026-03-01,list\n"
    first = catalogs.import_prices(text, "book.csv")
    assert (first.added, first.known, first.past_from_us) == (2, 0, moment_us("2026-03-01"))
    before = rows(engine)
    clock.at_us += HOUR
    again = catalogs.import_prices(text, "renamed.csv")
    assert (again.added, again.known, again.superseded, again.past_from_us) == (0, 2, (), None)
    assert rows(engine) == before


def test_one_wrong_row_keeps_the_whole_file_out(engine: Engine, catalogs: Catalogs) -> None:
    """A half-imported price book would be a price book that nobody wrote."""
    before = rows(engine)
    with pytest.raises(InvalidInput) as caught:
        catalogs.import_prices(PRICES + "g,spot,3,2026-03-01,s\nh,spot,x,2026-03-01,s", "b.csv")
    assert [str(f)[:22] for f in caught.value.faults] == ["line 3: column price: "]
    assert rows(engine) == before


def test_declaring_a_replaced_row_again_is_told_to_bring_nothing_back(
    store: CatalogStore, catalogs: Catalogs, clock: Clock
) -> None:
    """An old file imported over a new one does not win in silence, nor lose in silence."""
    old = PRICES + "g,spot,3,2026-03-01,list\n"
    catalogs.import_prices(old, "old.csv")
    clock.at_us += HOUR
    catalogs.import_prices(old.replace(",3,", ",2,"), "new.csv")
    clock.at_us += HOUR
    assert catalogs.import_prices(old, "old.csv").superseded == ("g",)
    assert dollars(store, "g", NOW, clock.at_us) == 2
    clock.at_us += HOUR
    assert catalogs.import_prices(old.replace("list", "list again"), "old.csv").added == 1
    assert dollars(store, "g", NOW, clock.at_us) == 3


def test_of_two_imports_at_one_tick_the_second_is_the_newer(
    store: CatalogStore, catalogs: Catalogs, clock: Clock
) -> None:
    """A clock that stands, or steps back a little, makes no tie."""
    catalogs.import_prices(PRICES + "g,spot,3,2026-03-01,a", "a.csv")
    clock.at_us -= MINUTE // 2
    catalogs.import_prices(PRICES + "g,spot,2,2026-03-01,b", "b.csv")
    assert dollars(store, "g", NOW, NOW) == 3
    assert dollars(store, "g", NOW, NOW + 1) == 2


def test_a_clock_that_went_back_does_not_rewrite_what_was_known(
    engine: Engine, catalogs: Catalogs, clock: Clock
) -> None:
    """A row that claims to have been known yesterday would change yesterday's statement."""
    catalogs.import_prices(PRICES + "g,spot,3,2026-03-01,a", "a.csv")
    before = rows(engine)
    clock.at_us -= HOUR
    with pytest.raises(Conflict, match="3600 s behind"):
        catalogs.import_prices(PRICES + "g,spot,2,2026-03-01,b", "b.csv")
    assert rows(engine) == before


def test_an_operators_row_outlives_a_new_versions_shipped_row(
    store: CatalogStore, catalogs: Catalogs, clock: Clock
) -> None:
    """What you declared stays in force when an upgrade ships another figure."""
    catalogs.add_coefficient({
        "kind": "grid_ci", "key": "DEU", "value": "300", "unit": "g/kWh", "source": "our contract",
        "licence": "ours", "valid_from": "2000-01-01",
    })  # fmt: skip
    clock.at_us += HOUR
    upgrade = [r for r in shipped.shipped_coefficients() if r.key == "DEU"]
    newer = [type(r)(r.kind, r.key, "999", r.unit, None, None, 2024, r.source, r.licence, 0)
             for r in upgrade]  # fmt: skip
    assert len(store.declare(newer, clock.at_us)) == 1
    found = store.rate_book(clock.at_us).intensity("DEU", NOW)
    assert found is not None and found.value == 300


def test_listing_marks_what_holds(catalogs: Catalogs, clock: Clock) -> None:
    """A list shows every row that was known, and which of them holds at a moment."""
    catalogs.import_prices(PRICES + "g,spot,3,2026-03-01,a\ng,spot,4,2026-06-01,b", "a.csv")
    at = [moment_us(day) for day in ("2026-01-01", "2026-04-01", "2026-07-01")]
    marks = [
        [p["in_force"] for p in catalogs.prices(moment, clock.at_us) if p["sku"] == "g"]
        for moment in at
    ]
    assert marks == [[False, False], [True, False], [False, True]]
    assert not [p for p in catalogs.prices(at[2], NOW - 1) if p["sku"] == "g"]
    zones = [c for c in catalogs.coefficients(NOW, NOW) if c["kind"] == "grid_zone"]
    assert zones and all(zone["in_force"] for zone in zones)


def test_lookups_in_the_database_are_the_books(
    store: CatalogStore, catalogs: Catalogs, engine: Engine, clock: Clock
) -> None:
    """Exact decimals survive the round trip; every row is there once."""
    catalogs.import_coefficients(
        COEFFICIENTS + "grid_ci,NLD,268.48000000000000000001,g/kWh,s,l,2026-01-01", "n.csv"
    )
    found = store.rate_book(clock.at_us).intensity("NLD", NOW)
    assert found is not None and found.value == Fraction("268.48000000000000000001")
    with engine.begin() as connection:
        count = connection.scalar(select(func.count()).select_from(rates.coefficient))
    assert count == len(shipped.shipped_coefficients()) + 1


def test_an_aws_region_gets_the_carbon_of_its_state(store: CatalogStore) -> None:
    """The region "aws/us-east-1" is Virginia's grid; Amsterdam has no figure and no carbon."""
    book: RateBook = store.rate_book(NOW)
    found = book.intensity("aws/us-east-1", NOW)
    assert found is not None and found.value == Fraction("244.8")
    (cited,) = store.cited([found.coef_id])
    assert (cited["key"], cited["year"], cited["licence"]) == ("US-VA", 2023, "public domain")
    assert book.intensity("azure/westeurope", NOW) is None


def test_a_charge_takes_the_figures_of_the_device_and_region(engine: Engine) -> None:
    """An hour of an idle H100 in Oregon: money, energy and both carbons, from the tables."""
    store = CatalogStore(engine)
    store.load_shipped(NOW - HOUR)
    catalogs = Catalogs(store, Clock())
    catalogs.import_prices(PRICES + "h100,spot,2.5,2026-01-01,contract", "c.csv")
    made = Resource("serve/shop/0", "replica", "h100-sxm", 1, 1, "h100", NOW, "aws/us-west-2")
    window = SupplyWindow("p", "b", 1, made.resource_id, NOW, NOW + HOUR, HOUR)
    moved = window_transfers(
        made, window, [], store.rate_book(NOW).valuation(made, NOW), idle_account(made, [])
    )
    supplied = {m.unit: m.amount for m in moved if m.credit.role == "supply"}
    assert supplied == {
        "device_us": HOUR, "nUSD": 2_500_000_000, "mJ": 70 * 3_600_000,
        "ugCO2e_loc": 11_585_000, "ugCO2e_emb": round(Fraction("575.1") * 10**9 / 35_040),
    }  # fmt: skip


def test_the_page_of_coefficients_shows_every_shipped_figure() -> None:
    """Whoever reads the page reads what the ledger computes with."""
    lines = (Path(__file__).parents[3] / "docs/reference/coefficients.md").read_text().splitlines()
    for row in shipped.shipped_coefficients():
        key, shown = row.key, row.value
        if row.kind == "grid_zone":
            key, shown = row.value, row.key
        elif row.kind == "peak_flops":
            key, shown = row.key.split("/")[0], str(int(row.value) // 10**12)
        assert any(f"`{key}`" in line and shown in line for line in lines), row
