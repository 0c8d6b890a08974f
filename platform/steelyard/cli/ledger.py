"""``steelyard ledger``: what was spent, whether the books hold, and the entries as a file."""

import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from steelyard.bootstrap import Platform
from steelyard.cli.models import pay_back_text
from steelyard.cli.output import emit, note, stdout, table
from steelyard.domain import figures
from steelyard.domain.break_even import BreakEven
from steelyard.domain.errors import NotFound, Refused
from steelyard.services.statements import Measures, ModelStatement
from steelyard.settings import load_settings

app = typer.Typer(help="The ledger of compute, cost, energy and carbon.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command("report")
def report(
    model: Annotated[str | None, typer.Option(metavar="M", help="Only this model.")] = None,
    as_json: AsJson = False,
) -> None:
    """Training against inference, per version and phase, with break-even and pay-back."""
    platform = Platform(load_settings())
    platform.metering.collect()
    platform.metering.post()
    known = platform.statements.models()
    if model is not None and model not in known:
        listed = ", ".join(known) or "none yet"
        raise NotFound(f"The ledger knows no model {model!r}.", f"It knows: {listed}.")
    statements = [platform.statements.model(name) for name in ([model] if model else known)]
    document = {"models": [asdict(s) for s in statements]}

    def show() -> None:
        if not statements:
            stdout.print(
                "Nothing was metered yet. Start with: steelyard train examples/digits.yaml"
            )
        for statement in statements:
            _print(statement, platform.settings.region)
        for price in platform.catalog.prices():
            if price.sku == platform.settings.price_sku:
                rate = figures.money(price.price_nano)
                stdout.print(f"price of {price.sku}: {rate}, {price.source}", markup=False)

    emit(document, as_json, show)


def _print(s: ModelStatement, region: str) -> None:
    rows: list[tuple[object, ...]] = []
    for v in s.versions:
        name = f"{v.version} {v.variant or ''}" if v.version else "runs without a version"
        rows.append((name, "training", None, *_cells(v.training)))
        rows.append((name, "inference", v.traffic.requests, *_cells(v.serving)))
        rows.append((name, "idle", None, *_cells(v.idle)))
    rows.append(("all", "training", None, *_cells(s.training)))
    rows.append(("all", "inference", s.traffic.requests, *_cells(s.serving)))
    rows.append(("all", "idle", None, *_cells(s.idle)))
    columns = ("version", "phase", "Requests", "FLOPs", "Device time", "Cost", "Energy*", "Carbon*")
    stdout.print(table(f"{s.model}, ledger entry {s.ledger_seq}", columns, rows))
    stdout.print(f"break-even with idle time: {_break_even(s.break_even['allocation'])}")
    stdout.print(f"break-even of direct use:  {_break_even(s.break_even['usage'])}")
    for v in s.versions:
        if v.pay_back is not None:
            text = pay_back_text(v.pay_back)
            stdout.print(f"pay-back of version {v.version} ({v.variant}): {text}; a point estimate")
    grid = f"grid {region}, location-based" if region else "carbon unknown: no region is set"
    stdout.print(f"* estimated by a load model (±50 %); {grid}; – is unknown, not 0", markup=False)


def _cells(m: Measures) -> tuple[str, ...]:
    return (figures.flops(m.flop), figures.duration(m.device_us), figures.money(m.cost_nano),
            figures.energy(m.energy_mj), figures.carbon(m.carbon_ug))  # fmt: skip


def _break_even(b: BreakEven) -> str:
    if b.requests is None:
        return "unknown: no requests were charged yet"
    days = f", {b.days:.3g} days at the measured traffic" if b.days is not None else ""
    state = "reached" if b.crossed else "not reached yet"
    return f"inference overtakes training after {figures.count(b.requests)} requests{days}; {state}"


@app.command("verify")
def verify(as_json: AsJson = False) -> None:
    """Recompute every hash chain; exit 1 and name the first row that does not hold."""
    result = Platform(load_settings()).audits.verify()
    emit({"ok": not result.broken, **asdict(result)}, as_json, lambda: stdout.print(
        f"{result.entries} entries, head {result.head[:16] or 'none'}: "
        + ("every chain holds" if not result.broken else "BROKEN"), markup=False
    ))  # fmt: skip
    if result.broken:
        raise Refused("The books do not hold: " + "; ".join(result.broken) + ".",
                      "Compare with a backup and the published head.")  # fmt: skip


@app.command("export")
def export(
    output: Annotated[Path | None, typer.Option(help="A file; default: standard output.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines instead of CSV.")] = False,
) -> None:
    """Write every entry, in order, with accounts, amounts and hashes."""
    entries = Platform(load_settings()).ledger.entries()
    target = output.open("w", newline="", encoding="utf-8") if output else sys.stdout
    written = 0
    try:
        writer: Any = None
        for entry in entries:
            row = {**entry, "coef_ids": " ".join(entry["coef_ids"])}
            if as_json:
                target.write(json.dumps(row) + "\n")
            else:
                if writer is None:
                    writer = csv.DictWriter(target, fieldnames=list(row))
                    writer.writeheader()
                writer.writerow(row)
            written += 1
    finally:
        if output:
            target.close()
    note(f"{written} entries")
