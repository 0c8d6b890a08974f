"""``steelyard ledger budget`` and ``steelyard ledger team``: limits, and who owns which model."""

from dataclasses import asdict
from datetime import date
from typing import Annotated

import typer

from steelyard.bootstrap import Platform
from steelyard.cli.output import emit, stdout, table
from steelyard.cli.report import AsJson
from steelyard.cli.serving import actor
from steelyard.domain import figures
from steelyard.domain.allocation import round_half_even
from steelyard.domain.errors import Fault, InvalidInput, NotFound
from steelyard.domain.ownership import DAY_US
from steelyard.domain.quantities import GRAM_UG, KWH_MJ, NANO, exact
from steelyard.domain.span import day_of, span_of
from steelyard.services import words
from steelyard.services.budgets import BudgetLine
from steelyard.services.outlooks import Scope
from steelyard.settings import load_settings

app = typer.Typer(help="Limits for models and teams.", no_args_is_help=True)
MEASURES = {
    "cost": ("cost_nano", NANO, "US dollars"),
    "energy": ("energy_mj", KWH_MJ, "kilowatt-hours"),
    "carbon": ("carbon_ug", 1_000 * GRAM_UG, "kilograms of CO2e, operational"),
    "embodied": ("embodied_ug", 1_000 * GRAM_UG, "kilograms of CO2e, embodied"),
    "device-time": ("device_us", 3_600_000_000, "device-hours"),
}
"""What may be limited: its field, ledger units in one of what people type, and what that is."""

OfModel = Annotated[str | None, typer.Option(metavar="M", help="Of this model.")]
OfTeam = Annotated[str | None, typer.Option(help="Of all models of this team.")]
Measure = Annotated[str, typer.Option(metavar="|".join(MEASURES), help="What is limited.")]
Period = Annotated[
    str, typer.Option(metavar="month|quarter|year", help="For which calendar period.")
]


@app.command("set")
def set_budget(
    limit: Annotated[str, typer.Argument(metavar="LIMIT", help="In the measure's unit.")],
    model: OfModel = None,
    team: OfTeam = None,
    measure: Measure = "cost",
    period: Period = "month",
    warn: Annotated[
        float, typer.Option(min=0.01, max=100, help="Percent of it from which to warn.")
    ] = 80,
    as_json: AsJson = False,
) -> None:
    """Limit what a model or a team spends; an earlier limit of the same kind counts no more."""
    scope = _scope(model, team)
    field, factor, _ = _measured(measure)
    amount = round_half_even(exact(limit) * factor)
    budgets = Platform(load_settings()).budgets
    line = budgets.set(scope, field, period, amount, round(warn * 100), actor())
    emit({"budget": asdict(line)}, as_json, lambda: _print([line]))


@app.command("withdraw")
def withdraw_budget(
    model: OfModel = None,
    team: OfTeam = None,
    measure: Measure = "cost",
    period: Period = "month",
    as_json: AsJson = False,
) -> None:
    """Take a limit back: it counts no more, and stays on record."""
    scope = _scope(model, team)
    budgets = Platform(load_settings()).budgets
    record = budgets.withdraw(scope, _measured(measure)[0], period, actor())
    limit = words.UNITS[record.measure](record.amount)
    emit({"withdrawn": asdict(record)}, as_json, lambda: stdout.print(
        f"{scope.kind} {scope.name}: the limit of {limit} a {period} counts no more", markup=False
    ))  # fmt: skip


@app.command("list")
def list_budgets(
    model: Annotated[str | None, typer.Option(metavar="M", help="Only of this model.")] = None,
    team: Annotated[str | None, typer.Option(help="Only of this team.")] = None,
    as_json: AsJson = False,
) -> None:
    """Every budget: spent, expected, and whether it warns, will be exceeded, or is."""
    scope = _scope(model, team) if model or team else None
    lines = Platform(load_settings()).budgets.lines(scope)
    emit({"budgets": [asdict(line) for line in lines]}, as_json, lambda: _print(lines))


def team(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    team: Annotated[str, typer.Argument(metavar="TEAM")],
    since: Annotated[str | None, typer.Option(metavar="DAY", help="From this day on, UTC.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say which team a model belongs to: its cost is reported there from that day on."""
    platform = Platform(load_settings())
    known = platform.statements.models()
    if model not in known:
        listed = ", ".join(known) or "none yet"
        raise NotFound(f"The ledger knows no model {model!r}.", f"It knows: {listed}.")
    record = platform.budgets.assign(model, team, _day(since))
    emit(asdict(record), as_json, lambda: stdout.print(
        f"{model} belongs to {team} from {_since(record.valid_from_us)} on", markup=False
    ))  # fmt: skip


def _day(text: str | None) -> date | None:
    span = span_of(text, text, None, date.max) if text else None
    return span.first if span else None


def _since(valid_from_us: int) -> str:
    day = valid_from_us // DAY_US
    return "the beginning" if not day else str(day_of(day))


def _measured(measure: str) -> tuple[str, int, str]:
    if measure not in MEASURES:
        fault = Fault("--measure", f"{measure!r} is no measure")
        raise InvalidInput(str(fault), (fault,), f"There are: {', '.join(MEASURES)}.")
    return MEASURES[measure]


def _scope(model: str | None, team: str | None) -> Scope:
    if (model is None) == (team is None):
        raise InvalidInput("A budget is of a model or of a team.", hint="Give --model or --team.")
    return Scope("model", model) if model else Scope("team", team or "")


def _print(lines: list[BudgetLine]) -> None:
    rows = []
    for b in lines:
        say = words.UNITS[b.measure]
        rows.append((f"{b.scope_kind} {b.scope}", words.NAMES[b.measure], b.period, str(b.last_day),
                     say(b.limit), say(b.spent), say(b.expected), b.state,
                     figures.percent(b.completeness_share), "; ".join(b.reasons)))  # fmt: skip
    columns = ("scope", "measure", "period", "until", "Limit", "Spent", "Expected", "state",
               "Complete", "why")  # fmt: skip
    stdout.print(table("Budgets", columns, rows))
