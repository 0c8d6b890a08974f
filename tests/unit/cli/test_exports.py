"""``steelyard ledger export``, as people type it."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from steelyard.bootstrap import Platform
from steelyard.cli.exports import export
from steelyard.domain.errors import InvalidInput, NotFound, Unavailable
from steelyard.domain.metering import Resource, SupplyWindow, UsageWindow
from steelyard.domain.model_version import ModelVersion, Signature
from steelyard.settings import Settings

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY_US = 24 * HOUR
DAY = 20_000  # 2024-10-04
Run = Callable[..., tuple[str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command on a ledger with one hour of serving; standard output and error."""
    home = tmp_path / "home"
    monkeypatch.setenv("STEELYARD_HOME", str(home))
    platform = Platform(Settings(home=home))
    _serve(platform)
    platform.engine.dispose()
    app = typer.Typer()
    app.command("export")(export)
    command: Any = typer.main.get_command(app)

    def run(*words: str) -> tuple[str, str]:
        capsys.readouterr()
        command(list(words), "steelyard ledger export", standalone_mode=False)
        shown = capsys.readouterr()
        return shown.out, shown.err

    return run


def _serve(platform: Platform) -> None:
    start, name = DAY * DAY_US, "serve/digits/1/0"
    platform.facts.ingest(
        [
            Resource(name, "replica", "generic-vcpu", 1, 1, "vcpu-hour", start, "DEU"),
            SupplyWindow(name, "boot", 1, name, start, start + HOUR, HOUR, cpu_us=HOUR // 2),
            UsageWindow(name, "boot", 2, name, start, start + HOUR, "digits", 1, "inference",
                        "serve", requests=5, busy_ns=1_800 * 10**9),
        ],
        start + HOUR,
    )  # fmt: skip
    platform.catalog.record_version(
        ModelVersion("digits", 1, "run-1", "runs:/run-1/model", "model.onnx", "d" * 64, 10, "full",
                     "trained", Signature((), ()), start)
    )  # fmt: skip
    platform.books.post()


def test_charges_of_a_month_go_to_standard_output_and_the_head_to_standard_error(run: Run) -> None:
    """A pipe gets only rows; what somebody should note stands beside it."""
    out, err = run("--format", "focus", "--period", "2024-10")
    rows = list(csv.DictReader(out.splitlines()))
    assert {row["ResourceId"] for row in rows} == {"models:/digits/1"}
    assert {row["ChargePeriodStart"] for row in rows} == {"2024-10-04T00:00:00Z"}
    assert f"{len(rows)} rows, $" in err
    assert "ledger entry" in err


def test_days_select_and_json_gives_a_line_a_charge(run: Run) -> None:
    """The last day is included; amounts are texts, because floats would round them."""
    out, _ = run("--format", "focus", "--from", "2024-10-04", "--to", "2024-10-04", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines
    assert {type(line["EffectiveCost"]) for line in lines} == {str}
    assert run("--format", "focus", "--from", "2024-10-05", "--json")[0] == ""


def test_entries_are_written_when_nothing_else_is_asked_for(run: Run, tmp_path: Path) -> None:
    """The chain, whole, in a file whose name chooses the form."""
    out, _ = run()
    entries = list(csv.DictReader(out.splitlines()))
    assert entries[0]["seq"] == "1"
    lines = tmp_path / "entries.jsonl"
    run("--out", str(lines))
    assert len(lines.read_text().splitlines()) == len(entries)


def test_a_dossier_is_one_json_document(run: Run, tmp_path: Path) -> None:
    """SPDX for a bill of materials, a report for the regulator."""
    file = tmp_path / "energy.json"
    run("--format", "spdx", "--model", "digits", "--out", str(file))
    assert json.loads(file.read_text())["@context"].endswith("3.0.1/spdx-context.jsonld")
    out, _ = run("--format", "report")
    assert json.loads(out)["schema_version"] == 1
    assert json.loads(out)["versions"][0]["training_flop"] is None


def test_the_names_of_a_company_are_settings(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the file, from the environment, or the platform's own; in every version's columns."""
    (tmp_path / "home" / "steelyard.toml").write_text(
        'focus_invoice_issuer = "Group IT"\nfocus_billing_account_id = "cc-4711"\n'
    )
    monkeypatch.setenv("STEELYARD_FOCUS_SERVICE_PROVIDER", " ML Platform ")
    monkeypatch.setenv("STEELYARD_FOCUS_HOST_PROVIDER", "Example Cloud")
    row = next(csv.DictReader(run("--format", "focus")[0].splitlines()))
    assert (row["InvoiceIssuerName"], row["BillingAccountId"]) == ("Group IT", "cc-4711")
    assert (row["ServiceProviderName"], row["HostProviderName"]) == ("ML Platform", "Example Cloud")
    assert row["BillingAccountName"] == "Steelyard"
    old = run("--format", "focus", "--focus-version", "1.2")[0]
    assert next(csv.DictReader(old.splitlines()))["ProviderName"] == "ML Platform"


@pytest.mark.parametrize("setting", ["focus_invoice_issuer", "focus_billing_account_id"])
def test_a_name_that_the_specification_needs_cannot_be_empty(
    run: Run, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty name would make an invalid file; it is refused before one is written."""
    monkeypatch.setenv(f"STEELYARD_{setting.upper()}", " ")
    with pytest.raises(InvalidInput) as refused:
        run("--format", "focus")
    assert [fault.where for fault in refused.value.faults] == [setting]


@pytest.mark.parametrize(
    "words",
    [
        ("--format", "focus", "--focus-version", "1.1"),
        ("--format", "focus", "--period", "2024"),
        ("--format", "focus", "--period", "2024-10", "--from", "2024-10-01"),
        ("--format", "focus", "--from", "yesterday"),
        ("--format", "focus", "--out", "november.xlsx"),
        ("--format", "entries-csv", "--model", "digits"),
        ("--format", "report", "--period", "2024-10"),
        ("--format", "spdx", "--out", "energy.csv"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    run: Run, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each refusal is a message about the option, and no file appears."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput):
        run(*words)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_file_in_a_folder_that_is_not_there_is_told(run: Run, tmp_path: Path) -> None:
    """The message names the file; nothing else is made."""
    with pytest.raises(Unavailable, match=r"charges\.parquet"):
        run("--format", "focus", "--out", str(tmp_path / "nowhere" / "charges.parquet"))


def test_a_model_that_was_never_charged_is_a_mistake_not_an_empty_file(run: Run) -> None:
    """A typing error does not look like a free model."""
    with pytest.raises(NotFound, match="nobody"):
        run("--format", "focus", "--model", "nobody")
