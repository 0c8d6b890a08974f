"""``steelyard models gates | promote-check``, and the override that operators may use."""

from dataclasses import asdict, fields
from typing import Annotated, Any

import typer

from steelyard.cli.output import emit, stdout, table
from steelyard.cli.serving import actor, version_of
from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.gates import Finding, GatePolicy
from steelyard.domain.model_version import parse_model
from steelyard.settings import load_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Limit = float | None


def add_commands(app: typer.Typer) -> None:
    """Add both to the commands of ``models``."""
    app.command("gates")(gates)
    app.command("promote-check")(promote_check)


def gates(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    max_quality_loss: Annotated[
        Limit, typer.Option(help="Share of labels, at the interval's worse end: 0.005.")
    ] = None,
    max_size_ratio: Annotated[Limit, typer.Option(help="File bytes to the parent's.")] = None,
    max_latency_ratio: Annotated[Limit, typer.Option(help="p50 to the parent's, batch 1.")] = None,
    max_energy_ratio: Annotated[Limit, typer.Option(help="Energy of a row to the parent's.")]
    = None,
    latency_class_ms: Annotated[Limit, typer.Option(help="Milliseconds at p95, batch 1.")] = None,
    min_agreement: Annotated[Limit, typer.Option(help="Share of first choices as the parent.")]
    = None,
    min_accuracy: Annotated[Limit, typer.Option(help="At the lower end of its interval.")] = None,
    without: Annotated[
        list[str] | None, typer.Option(metavar="GATE", help="Ask this no more, by its option.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why it is changed; kept in the history.")] = "",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show what is asked of a model's versions before they take traffic, or change it."""
    from steelyard.bootstrap import Platform
    from steelyard.bootstrap.access import check_operator

    name = parse_model(model)
    given = {
        "max_quality_loss": max_quality_loss, "max_size_ratio": max_size_ratio,
        "max_latency_ratio": max_latency_ratio, "max_energy_ratio": max_energy_ratio,
        "latency_class_ms": latency_class_ms, "min_agreement": min_agreement,
        "min_accuracy": min_accuracy,
    }  # fmt: skip
    changes: dict[str, Limit] = {key: value for key, value in given.items() if value is not None}
    changes |= dict.fromkeys(map(_gate, without or ()), None)
    platform = Platform(load_settings())
    platform.registry.aliases(name)
    if changes:
        check_operator(platform.settings)
        platform.gates.set_policy(name, changes, actor(), reason)
    policy, history = platform.gates.policy(name), platform.gates.policies(name)
    rows = [[key, _number(value)] for key, value in asdict(policy).items()]
    document = {"model": name, "policy": asdict(policy), "history": [asdict(h) for h in history]}
    emit(
        document, as_json, lambda: stdout.print(table(f"Gates of {name}", ("gate", "Limit"), rows))
    )


def promote_check(
    model: Annotated[str, typer.Argument(metavar="MODEL/VERSION")], as_json: AsJson = False
) -> None:
    """Say pass, fail or unknown for each gate, with figures; exit code 1 unless all pass."""
    from steelyard.bootstrap import Platform

    name, version = version_of(model)
    platform = Platform(load_settings())
    found = platform.gates.examine(name, version)
    platform.registry.check(found.version)
    document: dict[str, Any] = {
        "model": name, "version": version, "passed": found.passed, "stale": found.stale,
        "evidence_sha256": found.record.sha256 if found.record else None,
        "policy": asdict(found.policy), "findings": [asdict(f) for f in found.findings],
    }  # fmt: skip

    def show() -> None:
        columns = ("gate", "verdict", "Found", "Limit", "why")
        stdout.print(table(found.version.name, columns, map(_cells, found.findings)))
        stdout.print(f"{found.version.name} {'may' if found.passed else 'may not'} take traffic.")

    emit(document, as_json, show)
    if not found.passed:
        raise typer.Exit(1)


def _cells(finding: Finding) -> tuple[str | None, ...]:
    return (finding.gate, finding.verdict, _number(finding.found), _number(finding.limit),
            finding.why)  # fmt: skip


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"


def _gate(option: str) -> str:
    name = option.removeprefix("--").replace("-", "_")
    known = [field.name for field in fields(GatePolicy)]
    if name not in known:
        fault = Fault("--without", f"{option!r} is no gate; one of: {', '.join(known)}")
        raise InvalidInput(str(fault), (fault,))
    return name
