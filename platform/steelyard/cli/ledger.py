"""``steelyard ledger``: posting, reports, entries, corrections, closing, and whether it holds."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from steelyard.bootstrap import Platform
from steelyard.bootstrap.errands import collect
from steelyard.cli import budget
from steelyard.cli.catalog import coefficients_app, prices_app
from steelyard.cli.exports import export
from steelyard.cli.output import emit, note, stdout, table
from steelyard.cli.report import AsJson, report
from steelyard.cli.serving import actor
from steelyard.domain import figures
from steelyard.domain.errors import Fault, InvalidInput, Refused
from steelyard.domain.metering import Resource
from steelyard.domain.quantities import exact
from steelyard.domain.span import span_of
from steelyard.services import words
from steelyard.services.outlooks import ForecastLine, Scope
from steelyard.services.reservations import declare
from steelyard.services.witness import Comparison
from steelyard.settings import load_settings

app = typer.Typer(help="The ledger of compute, cost, energy and carbon.", no_args_is_help=True)
app.command("report")(report)
app.command("export")(export)
app.command("team")(budget.team)
app.add_typer(budget.app, name="budget")
app.add_typer(prices_app, name="prices")
app.add_typer(coefficients_app, name="coefficients")
UNITS = {
    "nUSD": figures.money, "mJ": figures.energy, "ugCO2e_loc": figures.carbon,
    "ugCO2e_emb": figures.carbon, "device_us": figures.duration,
}  # fmt: skip
DAY_US = 86_400_000_000
LEAST_DIGITS = 16


@app.command("post")
def post(
    value_anew: Annotated[
        str | None,
        typer.Option(metavar="SINCE", help="Also value hours since this day or moment anew."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take in what was measured on this machine and post it; may be repeated at any time."""
    settings = load_settings()
    platform = Platform(settings)
    since = None if value_anew is None else _moment(value_anew, "--value-anew")
    before = platform.ledger.head()
    collect(settings)
    valued = None
    if since is not None:
        valued = platform.books.value_anew(since, platform.clock.now_us())
    head = platform.ledger.head()
    entries = (head.seq if head else 0) - (before.seq if before else 0)
    document = {
        "entries": entries, "hours_valued_anew": valued.hours if valued else None,
        "head": _head(head),
    }  # fmt: skip

    def show() -> None:
        stdout.print(f"{entries} entries, head {_head(head) or 'none'}", markup=False)
        if valued is not None:
            stdout.print(f"{valued.hours} resource-hours were valued anew", markup=False)

    emit(document, as_json, show)


@app.command("forecast")
def forecast(
    model: Annotated[str | None, typer.Option(metavar="M", help="Only this model.")] = None,
    team: Annotated[str | None, typer.Option(help="Only what this team owns.")] = None,
    growth: Annotated[
        str, typer.Option(metavar="PERCENT", help="Growth a week, your assumption.")
    ] = "0",
    as_json: AsJson = False,
) -> None:
    """What this month, quarter and year will have come to, with a band."""
    if model is not None and team is not None:
        raise InvalidInput("A model and a team exclude each other.", hint="Give one of them.")
    platform = Platform(load_settings())
    scope = Scope("model", model) if model else Scope("team", team) if team else Scope()
    lines = platform.outlooks.forecast(scope, exact(growth) / 100)
    share = platform.outlooks.completeness(scope)
    document = {"scope_kind": scope.kind, "scope": scope.name or None, "completeness_share": share,
                "forecasts": [asdict(line) for line in lines]}  # fmt: skip
    emit(document, as_json, lambda: _print_forecast(scope, lines, share))


def _print_forecast(scope: Scope, lines: Sequence[ForecastLine], share: float | None) -> None:
    rows = []
    for f in lines:
        say = words.UNITS[f.measure]
        band = None if f.low is None else f"{say(f.low)} to {say(f.high)}"
        rows.append((words.NAMES[f.measure], f.period, str(f.last_day), say(f.spent), say(f.today),
                     say(f.expected), band, words.how_sure(f)))  # fmt: skip
    columns = ("measure", "period", "until", "Spent", "Today", "Expected", "Band", "how sure")
    stdout.print(table(f"Forecast: {scope.kind} {scope.name}".strip(), columns, rows))
    stdout.print("the same weekdays of the last 4 weeks; growth is assumed, never fitted")
    stdout.print(f"complete: {figures.percent(share)} of the windows", markup=False)


@app.command("entries")
def entries(
    model: Annotated[str | None, typer.Option(metavar="M", help="Only of this model.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    since_seq: Annotated[
        int | None, typer.Option(min=1, help="From this number on; default: the newest.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List entries with accounts, batch and reason."""
    found = Platform(load_settings()).reports.entries(model, since_seq, limit)

    def show() -> None:
        columns = ("Seq", "Amount", "to", "from", "batch", "reason")
        rows = [
            (e["seq"], UNITS[e["unit"]](e["amount"]), e["debit"], e["credit"], e["batch_id"],
             e["reason"] or e["kind"])
            for e in found
        ]  # fmt: skip
        stdout.print(table("Entries", columns, rows))

    emit({"entries": found}, as_json, show)


@app.command("verify")
def verify(
    head: Annotated[
        str | None, typer.Option(metavar="SEQ:HASH", help="A head noted earlier.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask the registry what was published.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Recompute every chain, compare what was published; exit 1 and name what does not hold."""
    noted = None if head is None else _noted(head)
    platform = Platform(load_settings())
    result = platform.audits.verify()
    compared = Comparison(None) if offline else platform.witnessing.compare()
    if compared.missed:
        note(f"not compared with what was published: {compared.missed}")
    broken = [*result.broken, *compared.broken]
    if noted is not None:
        stored = platform.reports.hash_of(noted[0])
        if stored is None:
            broken.append(f"entry {noted[0]} is gone: the ledger ends at {result.entries}")
        elif not stored.startswith(noted[1]):
            broken.append(f"entry {noted[0]} is not the one that was noted")
    full = f"{result.entries}:{result.head}" if result.head else None
    document = {"ok": not broken, **asdict(result), "broken": broken, "noted_head": full,
                "published_compared": compared.compared,
                "unpublished": compared.unpublished}  # fmt: skip
    emit(document, as_json, lambda: stdout.print(
        f"{result.entries} entries: " + ("every chain holds" if not broken else "BROKEN")
        + f"\nhead {full or 'none'}\n" + _published(compared), markup=False
    ))  # fmt: skip
    if broken:
        raise Refused("The books do not hold: " + "; ".join(broken) + ".",
                      "Compare with a backup and the published head.")  # fmt: skip


@app.command("reserve")
def reserve(
    sku: Annotated[str, typer.Argument(metavar="SKU", help="Whose price its users name.")],
    devices: Annotated[int, typer.Option(metavar="N", min=1, help="How many devices.")],
    since: Annotated[str, typer.Option("--from", metavar="DAY", help="Its first day (UTC).")],
    until: Annotated[str, typer.Option(metavar="DAY", help="The first day after it.")],
    as_json: AsJson = False,
) -> None:
    """Declare reserved capacity: hours that nobody uses are charged to its idle account."""
    platform = Platform(load_settings())
    reservation = Resource(
        f"reservation/{sku}", "reservation", platform.settings.device_model, devices, 1, sku,
        _moment(since, "--from"), platform.settings.region or None,
    )  # fmt: skip
    until_us = _moment(until, "--until")
    declare(platform.facts, reservation, until_us, platform.clock.now_us())
    text = f"{devices} devices are reserved as {sku}; unused hours go to idle:reservation/{sku}"
    document = {**asdict(reservation), "until_us": until_us}
    emit(document, as_json, lambda: stdout.print(text, markup=False))


@app.command("close")
def close(
    period: Annotated[str, typer.Argument(metavar="PERIOD", help="A month: 2026-11.")],
    as_json: AsJson = False,
) -> None:
    """Close a month for ever; what arrives later becomes a correction in a later month."""
    platform = Platform(load_settings())
    closed = platform.books.close(period, actor())
    done = platform.witnessing.publish()
    if done.missed:
        note(f"not published yet; the controller, or ledger post, will: {done.missed}")
    for alarm in done.alarms:
        note(f"the ledger is not what was published: {alarm}")

    def show() -> None:
        rows = [(unit, UNITS[unit](amount)) for unit, amount in (closed.totals or {}).items()]
        title = f"{closed.period_id} is closed at entry {closed.closing_seq}"
        stdout.print(table(title, ("unit", "Sum of entries"), rows))

    emit(asdict(closed), as_json, show)


@app.command("reverse")
def reverse(
    batch: Annotated[str, typer.Argument(metavar="BATCH", help="Its id.")],
    reason: Annotated[str, typer.Option(help="Why; kept for ever.")],
    as_json: AsJson = False,
) -> None:
    """Take a batch back with its mirror image; nothing is deleted."""
    if not reason.strip():
        raise InvalidInput("A reversal needs a reason.", (Fault("--reason", "is empty"),))
    written = Platform(load_settings()).books.reverse(batch, reason, actor())
    text = f"{batch} is reversed by {written} entries"
    document = {"batch_id": batch, "entries": written}
    emit(document, as_json, lambda: stdout.print(text, markup=False))


def _moment(text: str, option: str) -> int:
    """A day or a moment with time zone, in microseconds."""
    found = re.fullmatch(r"\d{4}-\d\d-\d\d", text)
    if found:
        span = span_of(text, text, None, datetime.now(UTC).date())
        return 0 if span is None else span.first_day * DAY_US
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        fault = Fault(option, f"{text!r} is no moment")
        hint = "Write 2026-11-01 or 2026-11-01T12:00:00Z."
        raise InvalidInput(str(fault), (fault,), hint) from error
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(aware.timestamp()) * 1_000_000


def _noted(text: str) -> tuple[int, str]:
    found = re.fullmatch(r"([1-9]\d{0,17}):([0-9a-f]{16,64})", text)
    if not found:
        fault = Fault("--head", f"{text!r} is not SEQ:HASH with {LEAST_DIGITS} digits or more")
        raise InvalidInput(str(fault), (fault,), "Copy the head that verify printed.")
    return int(found[1]), found[2]


def _published(compared: Comparison) -> str:
    if compared.compared is None:
        return "not compared with what was published"
    found = f"compared with {compared.compared} published heads and closed months"
    return found + (f"; {compared.unpublished} are not published" if compared.unpublished else "")


def _head(head: Any) -> str | None:
    return f"{head.seq}:{head.hash}" if head else None
