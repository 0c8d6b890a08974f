"""A file of prices or coefficients: what is taken, what is refused, and with which words."""

import csv
import io
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.catalog_cells import moment_us
from steelyard.domain.catalog_file import MOST_FAULTS, coefficients, prices
from steelyard.domain.catalog_rows import CoefficientDeclaration
from steelyard.domain.errors import InvalidInput
from steelyard.domain.reserved_price import reserved_price

DAY = 86_400_000_000
HEADER = "sku,kind,price,valid_from,source\n"
COEFFICIENTS = "kind,key,value,unit,low,high,year,source,licence,valid_from\n"


def one(row: str) -> CoefficientDeclaration:
    """The coefficient of a file with one row."""
    (found,) = coefficients(COEFFICIENTS + row, "table.csv")
    return found


def faults(read: str, text: str) -> list[str]:
    """What is told about a file, line by line."""
    reader = prices if read == "prices" else coefficients
    with pytest.raises(InvalidInput) as caught:
        reader(text, "book.csv")
    assert "book.csv" in caught.value.message
    assert "Nothing" in caught.value.hint
    return [str(fault) for fault in caught.value.faults]


def test_a_price_is_exact_to_the_nano() -> None:
    """What is written in the file is what is charged, to the ninth decimal."""
    (found,) = prices(HEADER + "h100,spot,1.234567891,2026-01-31,contract 7", "book.csv")
    assert found.price_nano == 1_234_567_891
    assert (found.sku, found.kind, found.currency, found.unit) == (
        "h100", "spot", "USD", "device_hour",
    )  # fmt: skip
    assert found.valid_from_us == moment_us("2026-01-31")


@given(st.integers(0, 2**63 - 1))
def test_every_price_that_the_ledger_can_hold_can_be_written(nano: int) -> None:
    """No digit is lost between a file and the price book."""
    text = f"{nano // 10**9}.{nano % 10**9:09d}"
    (found,) = prices(HEADER + f"a,internal,{text},2026-01-01,s", "book.csv")
    assert found.price_nano == nano


def test_columns_may_come_in_any_order_and_a_spreadsheets_mark_is_ignored() -> None:
    """A file saved by a spreadsheet, with a byte order mark and empty last lines, is taken."""
    text = '\ufeffsource,valid_from, price ,kind,sku\r\n"a, b",2026-01-01, 2 ,spot,x\r\n,,,,\r\n'
    (found,) = prices(text, "book.csv")
    assert (found.source, found.price_nano, found.sku) == ("a, b", 2 * 10**9, "x")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("h100,on_demand,2;5,2026-01-01,s", "line 3: column price: found '2;5'; write digits"),
        ("h100,on_demand,-1,2026-01-01,s", "column price: found '-1'; write digits"),
        ("h100,on_demand,1e3,2026-01-01,s", "column price: found '1e3'; write digits"),
        ("h100,on_demand,1.0000000001,2026-01-01,s", "at most nine decimals"),
        ("h100,on_demand,9223372037,2026-01-01,s", "less than 9223372036 per device-hour"),
        ("h100,on_demand,,2026-01-01,s", "column price: found nothing; write digits"),
        ("h100,free,1,2026-01-01,s", "column kind: found 'free'; write one of: on_demand"),
        ("h100,spot,1,31.01.2026,s", "column valid_from: found '31.01.2026'; write a day like"),
        ("h100,spot,1,2026-02-30,s", "column valid_from: found '2026-02-30'; write a day or"),
        ("h100,spot,1,2026-01-01T10:00,s", "write a zone after the time, Z for UTC"),
        ("h100,spot,1,1970-01-01,s", "write a moment after 1970-01-01"),
        (",spot,1,2026-01-01,s", "column sku: is missing; write it"),
        ("h100,spot,1,2026-01-01,", "column source: is missing; write it"),
        ("h100,spot,1,2026-01-01", "row: found 4 cells; write one a column"),
        ("h100,spot,1,2026-01-01,s,t", "row: found 6 cells; write one a column"),
        ("a,spot,1,2026-01-01,s", "row: is for the same and from the same moment as line 2"),
    ],
)
def test_a_wrong_price_is_refused_with_its_place_and_what_to_write(row: str, words: str) -> None:
    """Line, column, what was found, what to do: enough to mend the file in one round."""
    (told,) = faults("prices", HEADER + "a,spot,1,2026-01-01,s\n" + row)
    assert told.startswith("line 3: ")
    assert words in told


def test_a_price_in_another_currency_is_refused() -> None:
    """The ledger is kept in US dollars; a euro taken for a dollar would be a silent loss."""
    header = HEADER.strip() + ",currency,unit\n"
    told = faults("prices", header + "a,spot,1,2026-01-01,s,EUR,gpu_second\n")
    assert told == [
        "line 2: column currency: found 'EUR'; write one of: USD",
        "line 2: column unit: found 'gpu_second'; write one of: device_hour",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: column sku: is missing in the header; add it"),
        (HEADER, "line 1: file: has no rows; write one below the header"),
        (HEADER.replace("price", "prize"), "line 1: column 'prize': is not known; columns: sku"),
        (HEADER.replace("sku", "sku,sku"), "line 1: column sku: comes twice; keep one"),
        (HEADER + 'a,"spot,1,2026-01-01,s', "file: is not CSV"),
    ],
)
def test_a_file_of_another_shape_is_refused(text: str, words: str) -> None:
    """The header says which columns are missing, unknown or double."""
    assert any(words in told for told in faults("prices", text))


def test_all_faults_are_told_at_once_up_to_a_bound() -> None:
    """One round mends a file; whoever sent the wrong one is not flooded."""
    told = faults("prices", HEADER + "a,spot,x,2026-01-01,s\nb,gift,1,2026-01-01,s\n")
    assert len(told) == 2
    rows = "".join(f"s{n},spot,x,2026-01-01,s\n" for n in range(MOST_FAULTS + 7))
    with pytest.raises(InvalidInput, match="7 more faults") as caught:
        prices(HEADER + rows, "book.csv")
    assert len(caught.value.faults) == MOST_FAULTS


def test_pounds_per_megawatt_hour_become_grams_per_kilowatt_hour_exactly() -> None:
    """A US table can be taken as it is published; the pound is 453.59237 g by definition."""
    found = one("grid_ci,US-NY,539.7,lb/MWh,500,600.01,2023,EPA,public domain,2026-01-01")
    assert (found.value, found.unit) == ("244.803802089", "g/kWh")
    assert Fraction(found.low or 0) == 500 * Fraction("0.45359237")
    assert Fraction(found.high or 0) == Fraction("600.01") * Fraction("0.45359237")


def test_a_coefficient_keeps_the_digits_that_were_written() -> None:
    """Decimal text stays text: 0.10 does not become 0.1 or 0.1000000000000000056."""
    found = one("pue,DEU,1.10,ratio,1.05,1.2,2024,our meter,ours,2026-01-01T12:00+01:00")
    assert (found.value, found.low, found.high, found.year) == ("1.10", "1.05", "1.2", 2024)
    assert found.valid_from_us == moment_us("2026-01-01T11:00Z")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("wind,DEU,1,g/kWh,,,,s,l,2026-01-01", "column kind: found 'wind'; write one of: grid_ci"),
        ("grid_ci,DEU,1,kg/kWh,,,,s,l,2026-01-01", "column unit: found 'kg/kWh'; write one of"),
        ("pue,DEU,0.9,ratio,,,,s,l,2026-01-01", "column value: found '0.9'; write at least 1 rat"),
        ("lifespan_h,gpu,0,h,,,,s,l,2026-01-01", "column value: found '0'; write more than 0 h"),
        ("grid_ci,DEU,5,g/kWh,6,7,,s,l,2026-01-01", "column value: found low 6, value 5, high 7"),
        ("grid_ci,DEU,5,g/kWh,,4,,s,l,2026-01-01", "put them in order"),
        ("grid_ci,DEU,5,g/kWh,,,23,s,l,2026-01-01", "column year: found '23'; write the year"),
        ("grid_ci,DEU,5,g/kWh,,,,s,,2026-01-01", "column licence: is missing; write it"),
        ("grid_zone,aws/x,DEU,zone,1,,,s,l,2026-01-01", "column low: a zone has no range"),
        ("peak_flops,h100,1,FLOP/s,,,,s,l,2026-01-01", "column key: found 'h100'; write DEVICE"),
        ("peak_flops,h100/fp9,1,FLOP/s,,,,s,l,2026-01-01", "Use one of: bf16"),
    ],
)
def test_a_wrong_coefficient_is_refused(row: str, words: str) -> None:
    """A figure outside its meaning, without source, or in another unit never comes in."""
    assert any(words in told for told in faults("coefficients", COEFFICIENTS + row))


@given(st.lists(st.lists(st.text(max_size=8), max_size=12), max_size=5), st.text(max_size=40))
def test_whatever_a_file_holds_it_is_read_or_refused(rows: list[list[str]], tail: str) -> None:
    """No content makes anything but rows or a refusal with faults."""
    text = io.StringIO()
    csv.writer(text).writerows([COEFFICIENTS.strip().split(","), *rows])
    for content in (text.getvalue() + tail, tail):
        try:
            assert coefficients(content, "book.csv")
        except InvalidInput as error:
            assert error.faults


def test_the_same_row_has_the_same_id_and_another_figure_another() -> None:
    """An id is a digest of the content, so a file that comes twice is known."""
    row = "grid_ci,DEU,5,g/kWh,,,2023,s,l,2026-01-01"
    assert one(row).row_id == one(row).row_id
    assert one(row).row_id != one(row.replace("5", "6", 1)).row_id


def test_a_days_midnight_is_utc() -> None:
    """A day without a time begins at midnight UTC, wherever the machine stands."""
    assert moment_us("1970-01-02") == DAY
    assert moment_us("2026-01-01T00:00:00.000001Z") == moment_us("2026-01-01") + 1


@given(st.integers(0, 2**62), st.integers(1, 10**6), st.integers(1, 10**4))
def test_a_reservation_costs_its_invoice_up_to_what_is_told(
    invoice: int, hours: int, devices: int
) -> None:
    """All hours of the term at the price, plus the rounding that is told, are the invoice."""
    found = reserved_price(invoice, Fraction(hours), devices)
    assert found.price_nano * hours * devices + found.rounding_nano == invoice
    assert abs(found.rounding_nano) * 2 <= hours * devices


def test_a_reservation_without_a_term_is_refused() -> None:
    """Nothing is divided by no hours or no devices."""
    for hours, devices in ((0, 1), (1, 0)):
        with pytest.raises(InvalidInput, match="A reservation has"):
            reserved_price(1, Fraction(hours), devices)
