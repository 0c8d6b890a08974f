"""``steelyard models``: registered versions, their evidence, and what they cost so far."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from steelyard.cli.output import emit, stdout, table
from steelyard.domain import figures
from steelyard.domain.errors import NotFound
from steelyard.domain.model_version import ModelVersion, parse_ref
from steelyard.services import words
from steelyard.settings import load_settings

app = typer.Typer(help="Registered models and versions.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List every model with its newest version and its champion."""
    from steelyard.bootstrap import registry

    found = registry(load_settings())
    rows = []
    for model in found.models():
        versions = found.versions(model)
        champion = found.aliases(model).get("champion")
        newest = versions[-1].version if versions else None
        rows.append({"model": model, "versions": len(versions), "newest": newest,
                     "champion": champion})  # fmt: skip
    columns = ("model", "Versions", "Newest", "Champion")
    show = table("Models", columns, (row.values() for row in rows))
    emit({"models": rows}, as_json, lambda: stdout.print(show))


@app.command("show")
def show_model(
    model: Annotated[str, typer.Argument(metavar="MODEL[/VERSION|@ALIAS]")], as_json: AsJson = False
) -> None:
    """Show a model's versions, or one version, with evidence and cost."""
    from steelyard.bootstrap import Platform

    ref = parse_ref(model)
    platform = Platform(load_settings())
    aliases = platform.registry.aliases(ref.model)
    number = ref.version
    if ref.alias is not None:
        if ref.alias not in aliases:
            known = ", ".join(aliases) or "none"
            raise NotFound(f"{ref.model} has no alias {ref.alias!r}.", f"It has: {known}.")
        number = aliases[ref.alias]
    versions = (
        platform.registry.versions(ref.model)
        if number is None
        else [platform.registry.version(ref.model, number)]
    )
    statement = platform.statements.model(ref.model)
    costs = {v.version: v for v in statement.versions}
    document = {"model": ref.model, "aliases": aliases, "versions": [
        {**asdict(v), "account": asdict(costs[v.version]) if v.version in costs else None}
        for v in versions
    ]}  # fmt: skip

    def show() -> None:
        stdout.print(_evidence_table(ref.model, versions, aliases))
        columns = (
            "Version",
            "Cost to make",
            "Energy (estimated)",
            "Carbon",
            "Requests",
            "pay-back",
        )
        rows = []
        for v in versions:
            account = costs.get(v.version)
            made = account.training if account else None
            rows.append((
                v.version,
                figures.money(made.cost_nano if made else None),
                figures.energy(made.energy_mj if made else None),
                figures.carbon(made.carbon_ug if made else None),
                account.traffic.requests if account else None,
                words.pay_back(account.pay_back if account else None),
            ))  # fmt: skip
        stdout.print(table("Account", columns, rows))

    emit(document, as_json, show)


def _evidence_table(model: str, versions: list[ModelVersion], aliases: dict[str, int]) -> Any:
    named = {number: alias for alias, number in aliases.items()}
    columns = ("Version", "alias", "variant", "Parent", "Size", "p50", "p95", "Accuracy",
               "Agreement", "FLOPs", "run")  # fmt: skip
    rows = []
    for v in versions:
        e = v.evidence
        rows.append((
            v.version, named.get(v.version), v.variant, v.parent, figures.size(v.size_bytes),
            figures.milliseconds(e.latency_ms_p50) if e else None,
            figures.milliseconds(e.latency_ms_p95) if e else None,
            f"{e.accuracy:.4f} (n={e.examples})" if e else None,
            f"{e.agreement:.4f}" if e and e.agreement is not None else None,
            figures.flops(v.flops.forward if v.flops else None), v.run_id[:8],
        ))  # fmt: skip
    return table(model, columns, rows)
