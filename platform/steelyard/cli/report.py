"""``steelyard ledger report``: training against inference, and what follows from it."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steelyard.bootstrap import Platform
from steelyard.cli.output import emit, stdout, table
from steelyard.domain import figures
from steelyard.domain.cost import price_at
from steelyard.domain.errors import Fault, InvalidInput, NotFound
from steelyard.domain.measures import BASES, Basis
from steelyard.domain.span import Span, span_of, today
from steelyard.services import words
from steelyard.settings import load_settings

if TYPE_CHECKING:
    from steelyard.services.accounts import LedgerStatement, ModelStatement

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Model = Annotated[str | None, typer.Option(metavar="M", help="Only this model.")]
First = Annotated[str | None, typer.Option("--from", metavar="DAY", help="First day, UTC.")]
Last = Annotated[str | None, typer.Option("--to", metavar="DAY", help="Last day, included.")]
Period = Annotated[
    str | None, typer.Option(metavar="P", help="A month, quarter or year: 2026-11, 2026-Q4, 2026.")
]
COMPUTED = ("version", "run", "activity", "device", "datatype", "FLOPs", "Busy device time",
            "mfu")  # fmt: skip
COLUMNS = ("version", "phase", "Requests", "FLOPs", "Device time", "Cost", "Energy", "Carbon",
           "Embodied")  # fmt: skip


def report(
    source: Annotated[
        str | None, typer.Argument(metavar="[NAME|FILE]", help="With --scenario: which one.")
    ] = None,
    model: Model = None,
    version: Annotated[int | None, typer.Option(help="Only this version of --model.")] = None,
    team: Annotated[str | None, typer.Option(help="Only what this team owns.")] = None,
    first: First = None,
    last: Last = None,
    period: Period = None,
    basis: Annotated[
        str, typer.Option(metavar="usage|allocation", help="Without idle time, or with it.")
    ] = "allocation",
    scenario: Annotated[
        bool, typer.Option("--scenario", help="Claims about cost and energy, re-done.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Training against inference, per version and phase, with break-even and pay-back."""
    if scenario:
        from steelyard.cli.scenarios import show as show_scenarios

        return show_scenarios(source, as_json)
    chosen = _basis(basis, source, model, version)
    platform = Platform(load_settings())
    platform.metering.collect()
    platform.books.post()
    span = span_of(first, last, period, today(platform.clock.now_us()))
    statements = [platform.statements.model(name, span) for name in _models(platform, model, team)]
    whole = platform.statements.ledger(span)
    document = _document(statements, whole, version, team, span, chosen)
    whole_asked = model is None and team is None

    def show() -> None:
        if not statements:
            stdout.print(
                "Nothing was metered yet. Start with: steelyard train examples/digits.yaml"
            )
        for statement in statements:
            _print(statement, chosen, version)
        if whole_asked and statements:
            _print_whole(whole)
        _print_notes(platform, statements)

    emit(document, as_json, show)


def _basis(text: str, source: str | None, model: str | None, version: int | None) -> Basis:
    faults = []
    if text not in BASES:
        faults.append(Fault("--basis", f"{text!r} is neither usage nor allocation"))
    if source is not None:
        faults.append(Fault(source, "is taken with --scenario only; a model is --model M"))
    if version is not None and model is None:
        faults.append(Fault("--version", "needs --model"))
    if faults:
        raise InvalidInput("The options do not fit together.", tuple(faults))
    return "usage" if text == "usage" else "allocation"


def _models(platform: Platform, model: str | None, team: str | None) -> list[str]:
    known = platform.statements.models()
    if model is not None and model not in known:
        listed = ", ".join(known) or "none yet"
        raise NotFound(f"The ledger knows no model {model!r}.", f"It knows: {listed}.")
    if team is None:
        return [model] if model else known
    owners = platform.budgets.owners()
    if team not in owners.values():
        listed = ", ".join(sorted(set(owners.values()))) or "none yet"
        raise NotFound(f"No team {team!r} owns a model.", f"Teams: {listed}.")
    return [m for m in known if owners.get(m) == team and model in (None, m)]


def _document(
    statements: "list[ModelStatement]", whole: "LedgerStatement", version: int | None,
    team: str | None, span: Span | None, basis: Basis,
) -> dict[str, Any]:  # fmt: skip
    models = [asdict(s) | {"notices": words.notices(s)} for s in statements]
    for one in models:
        if version is not None:
            one["versions"] = [v for v in one["versions"] if v["version"] == version]
            if not one["versions"]:
                raise NotFound(f"{one['model']} has no version {version}.")
    teams = [asdict(t) for t in whole.teams if team in (None, t.team)]
    return {
        "basis": basis, "first_day": span.first if span else None,
        "last_day": span.last if span else None, "models": models, "teams": teams,
        "ledger": {k: v for k, v in asdict(whole).items() if k != "teams"},
    }  # fmt: skip


def _print(s: "ModelStatement", basis: Basis, version: int | None) -> None:
    rows: list[tuple[object, ...]] = []
    for v in s.versions:
        if version not in (None, v.version):
            continue
        name = f"{v.version} {v.variant or ''}" if v.version else "runs without a version"
        rows += _rows(name, v, basis)
        if v.upstream is not None and v.upstream.ancestors:
            rows.append((name, "upstream training", None, *words.cells(v.upstream.training)))
    if version is None:
        rows += _rows("all", s, basis)
    when = words.span(s.first_day, s.last_day)
    title = f"{s.model}{f' of team {s.team}' if s.team else ''}: {when}, basis {basis}"
    stdout.print(table(f"{title}, ledger entry {s.ledger_seq}", COLUMNS, rows))
    for line in (words.completeness(s.completeness), words.tiers(s.energy_by_tier_mj)):
        stdout.print(line, markup=False)
    _print_compute(s, version)
    _print_economics(s, basis)


def _rows(name: str, account: Any, basis: Basis) -> list[tuple[object, ...]]:
    both = account.bases[basis]
    rows: list[tuple[object, ...]] = [
        (name, "training", None, *words.cells(both.training)),
        (name, "inference", account.traffic.requests, *words.cells(both.inference)),
    ]
    if basis == "allocation":
        rows.append((name, "  of it idle", None, *words.cells(account.idle)))
    return rows


def _print_compute(s: "ModelStatement", version: int | None) -> None:
    rows = [
        (v.version, c.run_id and c.run_id[:12], c.activity, c.device_model, c.datatype,
         figures.flops(c.flop), figures.duration(c.busy_device_us), words.utilisation(c))
        for v in s.versions if version in (None, v.version) for c in v.compute
    ]  # fmt: skip
    if rows:
        stdout.print(table("Model FLOPs utilisation (MFU) of busy device time", COMPUTED, rows))


def _print_economics(s: "ModelStatement", basis: Basis) -> None:
    lines = [
        f"break-even with idle time: {words.break_even(s.break_even['allocation'])}",
        f"break-even of direct use:  {words.break_even(s.break_even['usage'])}",
        f"break-even at the present unit cost: "
        f"{words.break_even_outlook(s.break_even_outlook[basis])}",
    ]
    lines += [
        f"pay-back of version {v.version} ({v.variant}): {words.pay_back(v.pay_back)}"
        for v in s.versions if v.pay_back is not None
    ]  # fmt: skip
    per = ", ".join(f"{words.NAMES[name]} {words.per_thousand(name, found)}"
                    for name, found in s.per_1000[basis].items())  # fmt: skip
    lines.append(f"per 1,000 requests: {per}")
    made = s.per_training_run
    lines.append(f"per training run ({s.training_runs}): {figures.money(made.cost_nano)}, "
                 f"{figures.energy(made.energy_mj)}, {figures.carbon(made.carbon_ug)}")  # fmt: skip
    score = s.carbon_score.consumer_g_per_1000
    sci = "unknown: needs operational and embodied carbon" if score is None else f"{score:.3g} g"
    lines.append(f"SCI (ISO/IEC 21031) per 1,000 requests: {sci}")
    lines += [f"notice: {text}" for text in words.notices(s)]
    for line in lines:
        stdout.print(line, markup=False)


def _print_whole(whole: "LedgerStatement") -> None:
    rows = [
        ("training", *words.cells(whole.training)), ("inference", *words.cells(whole.inference)),
        ("idle, nobody's", *words.cells(whole.unowned_idle)),
        ("overhead (PUE)", *words.cells(whole.overhead)), ("supply", *words.cells(whole.supply)),
    ]  # fmt: skip
    for team in whole.teams:
        both = team.training + team.inference
        rows.append((f"team {team.team}", *words.cells(both)))
    stdout.print(table("The whole ledger", ("part", *COLUMNS[3:]), rows))
    for line in (words.completeness(whole.completeness), words.tiers(whole.energy_by_tier_mj)):
        stdout.print(line, markup=False)


def _print_notes(platform: Platform, statements: "list[ModelStatement]") -> None:
    region, sku = platform.settings.region, platform.settings.price_sku
    now = platform.clock.now_us()
    price = price_at(platform.catalog.prices(), sku, now, now)
    if price is not None:
        rate = figures.money(price.price_nano)
        stdout.print(f"price of {sku} here: {rate}, {price.source}", markup=False)
    carbon = any(side.carbon_ug is not None for s in statements
                 for side in (s.training, s.serving, s.idle))  # fmt: skip
    grid = f"grid here: {region}" if region else "no region is set here"
    if not carbon:
        grid = f"carbon unknown: {grid}"
    stdout.print(f"{grid}; carbon is location-based; – is unknown, not 0", markup=False)
