"""``steelyard models``: registered versions, their evidence, and what they cost so far."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from steelyard.cli import card, choosing, gates, lineage
from steelyard.cli.output import emit, note, stdout, table
from steelyard.cli.serving import actor, version_of
from steelyard.domain import figures
from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.model_version import ModelVersion, parse_ref
from steelyard.services import words
from steelyard.services.gates import Standing
from steelyard.settings import load_settings

app = typer.Typer(help="Registered models and versions.", no_args_is_help=True)
gates.add_commands(app)
choosing.add_commands(app)
lineage.add_commands(app)
card.add_commands(app)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List every model with its newest version and its champion."""
    from steelyard.bootstrap.registry import registry

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
    from steelyard.cli.rollout_registry import tell_drifts

    ref = parse_ref(model)
    platform = Platform(load_settings())
    aliases = platform.registry.aliases(ref.model)
    number = ref.number(aliases)
    versions = (
        platform.registry.versions(ref.model)
        if number is None
        else [platform.registry.version(ref.model, number)]
    )
    statement = platform.statements.model(ref.model)
    costs = {v.version: v for v in statement.versions}
    standings = {v.version: platform.gates.standing(v) for v in versions}
    drifts = platform.aliases.standing(ref.model)
    deletions = platform.deletions.history(ref.model)
    document = {"model": ref.model, "aliases": aliases, "versions": [
        {**_version(v, standings[v.version]),
         "account": asdict(costs[v.version]) if v.version in costs else None}
        for v in versions
    ], "drifts": [asdict(one) for one in drifts],
        "deletions": [asdict(one) for one in deletions]}  # fmt: skip

    def show() -> None:
        stdout.print(_evidence_table(ref.model, versions, standings, aliases))
        for v in versions:
            for why in standings[v.version].why:
                note(f"{v.name}: {why}")
        tell_drifts(drifts)
        for gone in deletions:
            stdout.print(f"{gone.model}/{gone.version} was deleted by {gone.actor}: {gone.reason}",
                         markup=False)  # fmt: skip
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
        for v in versions:
            account = costs.get(v.version)
            for line in words.pay_backs(account) if account else ():
                stdout.print(f"{v.name} pays back in {line}", markup=False)

    emit(document, as_json, show)


@app.command("delete")
def delete_version(
    model: Annotated[str, typer.Argument(metavar="MODEL/VERSION")],
    yes: Annotated[bool, typer.Option("--yes", help="Really: it cannot be undone.")] = False,
    reason: Annotated[str, typer.Option(help="Why; kept in the history.")] = "",
    as_json: AsJson = False,
) -> None:
    """Take a version out of the registry that nothing needs any more. For operators."""
    from steelyard.bootstrap import Platform
    from steelyard.bootstrap.access import check_operator

    name, version = version_of(model)
    if not yes:
        fault = Fault("--yes", f"is missing: {model} would be taken out of the registry for good")
        raise InvalidInput(str(fault), (fault,), "Its record and its cost stay on the books.")
    platform = Platform(load_settings())
    check_operator(platform.settings)
    done = platform.deletions.delete(name, version, actor(), reason)
    line = f"{model} is deleted from the registry; everything recorded of it stays."
    emit(asdict(done), as_json, lambda: stdout.print(line))


def _version(version: ModelVersion, standing: Standing) -> dict[str, Any]:
    """A version with the evidence that counts, which may be newer than the registry's."""
    record = standing.record
    return {
        **asdict(version),
        "evidence": asdict(record.evidence) if record else None,
        "evidence_sha256": record.sha256 if record else None,
        "evidence_recorded_us": record.recorded_us if record else None,
        "evidence_state": standing.state,
        "evidence_why": standing.why,
    }


def _evidence_table(
    model: str, versions: list[ModelVersion], standings: dict[int, Standing],
    aliases: dict[str, int],
) -> Any:  # fmt: skip
    named = {number: alias for alias, number in aliases.items()}
    columns = ("Version", "alias", "variant", "Parent", "Size", "p50", "p95", "Accuracy",
               "Agreement", "FLOPs", "evidence", "run")  # fmt: skip
    rows = []
    for v in versions:
        standing = standings[v.version]
        e = standing.record.evidence if standing.record else None
        rows.append((
            v.version, named.get(v.version), v.variant, v.parent, figures.size(v.size_bytes),
            figures.milliseconds(e.latency_ms_p50) if e else None,
            figures.milliseconds(e.latency_ms_p95) if e else None,
            f"{e.accuracy:.4f} (n={e.examples})" if e else None,
            f"{e.agreement:.4f}" if e and e.agreement is not None else None,
            figures.flops(v.flops.forward if v.flops else None), standing.state, v.run_id[:8],
        ))  # fmt: skip
    return table(model, columns, rows)
