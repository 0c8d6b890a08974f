"""``steelyard ledger export``: the books as files for finance, for auditors, for a dossier."""

import json
import re
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from steelyard.bootstrap import Platform
from steelyard.cli.output import SCHEMA_VERSION, note
from steelyard.domain import figures
from steelyard.domain.charge import Selection
from steelyard.domain.errors import Fault, InvalidInput, Unavailable
from steelyard.domain.focus_columns import parse_version
from steelyard.domain.span import span_of, today
from steelyard.domain.table import form_of
from steelyard.services.exports import Exported
from steelyard.settings import load_settings


class Format(StrEnum):
    """What to write."""

    ENTRIES = "entries-csv"
    FOCUS = "focus"
    SPDX = "spdx"
    REPORT = "report"


def export(
    format: Annotated[
        Format, typer.Option(help="Entries, FOCUS charges, SPDX energy, or an Annex XI report.")
    ] = Format.ENTRIES,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "--output", metavar="FILE",
            help="A .csv, .parquet or .jsonl file, or .json; default: standard output.",
        ),
    ] = None,
    focus_version: Annotated[
        str, typer.Option(metavar="VERSION", help="FOCUS 1.2, 1.3 or 1.4.")
    ] = "1.4",
    period: Annotated[
        str | None, typer.Option(metavar="MONTH", help="What was booked in a month: 2026-11.")
    ] = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="Charges from this day on.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="DAY", help="Charges to this day, included.")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="M", help="Only this model.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines instead of CSV.")] = False,
) -> None:  # fmt: skip
    """Write entries, charges or a model's energy as a file that other programs read."""
    selected = {"--period": period, "--from": first, "--to": last, "--model": model}
    platform = Platform(load_settings())
    exports = platform.exports
    if format is Format.FOCUS:
        version, form = parse_version(focus_version), form_of(out.name if out else None, as_json)
        selection = _selection(period, first, last, model, today(platform.clock.now_us()))
        _tell(exports.focus(selection, version, out, form))
    elif format is Format.ENTRIES:
        _refuse(format, selected, "The chain can be checked only as a whole.")
        _tell(exports.entries(out, form_of(out.name if out else None, as_json)))
    else:
        del selected["--model"]
        _refuse(format, selected, "It is about everything that a version ever used.")
        document = exports.spdx(model) if format is Format.SPDX else exports.annex_xi(model)
        if format is Format.REPORT:
            document = {"schema_version": SCHEMA_VERSION, **document}
        _write_json(out, document)


def _selection(
    period: str | None, first: str | None, last: str | None, model: str | None, present: date
) -> Selection:
    if period is not None and not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", period):
        fault = Fault("period", f"{period!r} is not a month")
        raise InvalidInput(str(fault), (fault,), "Write 2026-11, or give days: --from, --to.")
    days = span_of(first, last, period, present)
    if period is not None or days is None:
        return Selection(period, model=model)
    return Selection(None, days.first_day, days.last_day, model)


def _refuse(format: Format, given: dict[str, str | None], why: str) -> None:
    faults = tuple(
        Fault(name, f"does not go with --format {format}") for name, value in given.items() if value
    )
    if faults:
        raise InvalidInput(f"--format {format} takes no selection.", faults, why)


def _tell(done: Exported) -> None:
    cost = "" if done.cost_nano is None else f", {figures.money(done.cost_nano)}"
    note(f"{done.rows} rows{cost}")
    note(f"ledger entry {done.ledger_seq}, hash {done.ledger_hash or 'none'}")
    if done.without_cost:
        shown = {"device_us": figures.duration, "mJ": figures.energy}
        left = [f"{shown.get(unit, figures.carbon)(amount)} ({unit})"
                for unit, amount in sorted(done.without_cost.items())]  # fmt: skip
        note(f"without a cost of its own, so in no row: {', '.join(left)}")


def _write_json(out: Path | None, document: dict[str, Any]) -> None:
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if out is None:
        print(text)
        return
    if out.suffix.lower() not in (".json", ".jsonld"):
        fault = Fault("out", f"{out.name!r} does not end in .json or .jsonld")
        raise InvalidInput(str(fault), (fault,), "This format is one JSON document.")
    try:
        out.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise Unavailable(
            f"{out} cannot be written: {error.strerror}.", "Choose another place."
        ) from error
