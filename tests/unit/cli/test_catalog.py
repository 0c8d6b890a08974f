"""``ledger prices`` and ``ledger coefficients``, as people type them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from steelyard.bootstrap import Platform
from steelyard.cli import catalog
from steelyard.cli.app import USAGE
from steelyard.cli.app import run as steelyard
from steelyard.domain.errors import InvalidInput, NotFound
from steelyard.settings import Settings

Run = Callable[..., str]
PRICES = "sku,kind,price,valid_from,source\n"
GRID = ("coefficients", "add", "--kind", "grid_ci", "--unit", "g/kWh", "--source", "s",
        "--licence", "l", "--valid-from", "2026-01-01")  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs one command on a home of its own; what it printed, errors and notes included."""
    monkeypatch.setenv("STEELYARD_HOME", str(tmp_path / "home"))
    app = typer.Typer()
    app.add_typer(catalog.prices_app, name="prices")
    app.add_typer(catalog.coefficients_app, name="coefficients")
    command: Any = typer.main.get_command(app)

    def run(*words: str) -> str:
        capsys.readouterr()
        command(list(words), "steelyard ledger", standalone_mode=False)
        shown = capsys.readouterr()
        return shown.out + shown.err

    return run


def document(text: str) -> dict[str, Any]:
    """The JSON document at the beginning of what was printed; notes follow it."""
    found, _ = json.JSONDecoder().raw_decode(text)
    assert found["schema_version"] == 1
    return dict(found)


def test_a_price_is_added_listed_and_shown_as_of_a_moment(run: Run) -> None:
    """What was declared is in the book from now on, and not in the book of last year."""
    words = ("--sku", "h100", "--price", "2.50", "--valid-from", "2026-01-01", "--source", "deal")
    assert document(run("prices", "add", *words, "--kind", "internal", "--json"))["added"] == 1
    (listed,) = document(run("prices", "list", "--sku", "h100", "--json"))["prices"]
    assert listed["price_nano"] == 2_500_000_000
    assert (listed["kind"], listed["in_force"]) == ("internal", True)
    before = document(run("prices", "list", "--as-of", "2020-01-01", "--json"))
    assert before["prices"] == []
    (then,) = document(run("prices", "list", "--sku", "h100", "--at", "2025-12-31", "--json"))[
        "prices"
    ]
    assert then["in_force"] is False
    table = run("prices", "list")
    assert "2.50 USD" in table and "0.05 USD" in table and "always" in table


def test_a_price_of_the_past_says_how_to_value_anew(run: Run) -> None:
    """Nobody is left to wonder why last month's figures did not change."""
    words = ("prices", "add", "--sku", "a", "--price", "1", "--source", "s", "--valid-from")
    assert "steelyard ledger post --value-anew 2026-01-01\n" in run(*words, "2026-01-01")
    assert "value-anew 2026-01-01T10:30:00Z\n" in run(*words, "2026-01-01T12:30+02:00")
    assert "value-anew" not in run(*words, "2190-01-01")
    assert "value-anew" not in run(*words, "2026-01-01")


def test_a_reservations_invoice_becomes_a_price_and_the_rounding_is_told(run: Run) -> None:
    """8,760 dollars for a year of one device is a dollar an hour; 100 for 21 is not even."""
    words = ("prices", "add", "--kind", "reserved", "--valid-from", "2026-01-01", "--source", "i")
    even = run(*words, "--sku", "a", "--invoice", "8760.00", "--hours", "8760")
    assert "1.00 USD per device-hour, exactly the invoice" in even
    odd = run(*words, "--sku", "b", "--invoice", "100", "--hours", "3", "--devices", "7")
    assert "4.761904762 USD per device-hour, rounded half to even" in odd
    assert "0.000000002 USD more than the invoice" in odd
    found = document(run("prices", "list", "--json"))["prices"]
    assert [p["price_nano"] for p in found if p["kind"] == "reserved"] == [10**9, 4_761_904_762]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--price", "1", "--invoice", "5", "--hours", "2"),
        ("--invoice", "5", "--kind", "reserved"),
        ("--invoice", "5", "--hours", "2"),
        ("--invoice", "5", "--hours", "0", "--kind", "reserved"),
        ("--invoice", "five", "--hours", "2", "--kind", "reserved"),
        ("--invoice", "0.0000000001", "--hours", "2", "--kind", "reserved"),
        ("--price", "1,5"),
        ("--price", "1", "--kind", "gift"),
    ],
)
def test_a_price_that_is_not_clear_is_refused(run: Run, words: tuple[str, ...]) -> None:
    """Neither, both, or half of a price: nothing is declared."""
    with pytest.raises(InvalidInput):
        run("prices", "add", "--sku", "a", "--valid-from", "2026-01-01", "--source", "s", *words)
    assert len(document(run("prices", "list", "--json"))["prices"]) == 1


def test_files_are_imported_and_a_wrong_one_changes_nothing(run: Run, tmp_path: Path) -> None:
    """Prices and coefficients come from CSV files; a second import adds nothing."""
    book, wrong, grids = (tmp_path / name for name in ("book.csv", "wrong.csv", "grids.csv"))
    book.write_text(PRICES + "a,spot,1.5,2026-01-01,s\nb,spot,2,2026-01-01,s\n")
    wrong.write_text(PRICES + "c,spot,1.5,2026-01-01,s\nd,spot,free,2026-01-01,s\n")
    grids.write_text("kind,key,value,unit,source,licence,valid_from\n"
                     "grid_ci,US-NY,500,lb/MWh,EPA,public domain,2026-01-01\n")  # fmt: skip
    assert "added 2, already known 0" in run("prices", "import", str(book))
    assert "added 0, already known 2" in run("prices", "import", str(book))
    with pytest.raises(InvalidInput, match=r"wrong\.csv is not usable") as caught:
        run("prices", "import", str(wrong))
    assert "line 3: column price: found 'free'" in str(caught.value.faults[0])
    assert "added 1" in run("coefficients", "import", str(grids))
    (found,) = document(run("coefficients", "list", "--key", "US-NY", "--json"))["coefficients"]
    assert (found["value"], found["unit"]) == ("226.796185", "g/kWh")
    skus = {p["sku"] for p in document(run("prices", "list", "--json"))["prices"]}
    assert skus == {"a", "b", "vcpu-hour"}


def test_a_file_that_cannot_be_read_is_named(run: Run, tmp_path: Path) -> None:
    """Missing is not found; a spreadsheet is no text."""
    with pytest.raises(NotFound, match=r"none\.csv cannot be read"):
        run("prices", "import", str(tmp_path / "none.csv"))
    (tmp_path / "book.xlsx").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(InvalidInput, match="is not UTF-8 text"):
        run("prices", "import", str(tmp_path / "book.xlsx"))


def test_a_replaced_row_is_not_brought_back_in_silence(run: Run) -> None:
    """Declaring an old price again says that a later one holds, and what to do."""
    words = ("prices", "add", "--sku", "a", "--source", "s", "--valid-from", "2026-01-01")
    run(*words, "--price", "1")
    run(*words, "--price", "2")
    assert "later row has replaced them: a." in run(*words, "--price", "1")


def test_coefficients_are_listed_with_range_source_and_licence(run: Run) -> None:
    """Each figure shows what an auditor asks for."""
    found = document(run("coefficients", "list", "--kind", "embodied_kg", "--json"))
    h100 = next(c for c in found["coefficients"] if c["key"] == "h100-sxm")
    assert (h100["value"], h100["low"], h100["high"], h100["unit"]) == (
        "575.1",
        "164",
        "575.1",
        "kg",
    )
    assert "unconfirmed" in h100["source"] and "AGPL" in h100["licence"]
    assert "164 to 575.1" in run("coefficients", "list", "--key", "h100-sxm")


def test_a_moment_that_is_none_is_refused(run: Run) -> None:
    """The option is named."""
    with pytest.raises(InvalidInput) as caught:
        run("prices", "list", "--as-of", "yesterday")
    assert str(caught.value.faults[0]).startswith("--as-of: found 'yesterday'; write a day like")


def test_an_unknown_region_stops_the_books_until_it_is_declared(run: Run, tmp_path: Path) -> None:
    """Posting refuses at its start, and the command that it names mends it."""
    settings = Settings(home=tmp_path / "home", region="NLD")
    with pytest.raises(InvalidInput, match="The region 'NLD' has no grid intensity"):
        _ = Platform(settings).books
    run(*GRID, "--key", "NLD", "--value", "268.48")
    assert Platform(settings).books.post() == 0


def test_an_unknown_region_may_be_left_unknown(tmp_path: Path) -> None:
    """By setting, carbon stays NULL; a known region and no region always pass."""
    home = tmp_path / "home"
    for settings in (
        Settings(home=home, region="NLD", unknown_region="null"),
        Settings(home=home, region="aws/eu-west-1"),
        Settings(home=home),
    ):
        assert Platform(settings).books.post() == 0


def test_a_declared_default_serves_every_region(run: Run, tmp_path: Path) -> None:
    """An operator who wants the world average says so, with its source."""
    run(*GRID, "--key", "default", "--value", "475")
    assert Platform(Settings(home=tmp_path / "home", region="NLD")).books.post() == 0


def test_training_refuses_an_unknown_region_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody trains for an hour to learn that its carbon cannot be told."""
    monkeypatch.setenv("STEELYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STEELYARD_REGION", "us-east-1")
    workflow = Path(__file__).parents[3] / "examples" / "digits.yaml"
    assert steelyard(["train", str(workflow)]) == USAGE
    told = capsys.readouterr().err
    assert "The region 'us-east-1' has no grid intensity" in told
    assert "near it: aws/us-east-1" in told
    assert not Settings(home=tmp_path / "home").checkpoint_dir.exists()
