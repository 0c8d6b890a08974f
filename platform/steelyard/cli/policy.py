"""``steelyard serve policy show | set``: how a model answers, without a restart."""

from dataclasses import asdict
from typing import Annotated

import typer

from steelyard.cli.output import emit, note, stdout, table
from steelyard.cli.serving import actor
from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.serving_policy import PolicyChange, ServingPolicy
from steelyard.settings import load_settings

app = typer.Typer(help="How a model answers.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Model = Annotated[str, typer.Argument(metavar="MODEL")]


@app.command("show")
def show(model: Model, as_json: AsJson = False) -> None:
    """Show a model's serving policy, and who set it when."""
    from steelyard.bootstrap import Platform

    history = Platform(load_settings()).policies.history(model)
    _print(model, history, as_json)


@app.command("set")
def set_policy(
    model: Model,
    values: Annotated[list[str], typer.Argument(metavar="FIELD=VALUE...")],
    reason: Annotated[str, typer.Option(help="Why; kept in the history.")] = "",
    as_json: AsJson = False,
) -> None:
    """Change fields of a model's serving policy; replicas go by them within seconds."""
    from steelyard.bootstrap import Platform
    from steelyard.bootstrap.access import check_operator

    given = _pairs(values)
    platform = Platform(load_settings())
    check_operator(platform.settings)
    platform.policies.change(model, given, actor(), reason)
    note(f"{model}: {', '.join(given)} set.")
    _print(model, platform.policies.history(model), as_json)


def _pairs(values: list[str]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    faults = [Fault(name or "''", "has no value: write FIELD=VALUE")
              for name, sign, _ in pairs if not sign]  # fmt: skip
    twice = {name for name, _, _ in pairs if sum(name == other for other, _, _ in pairs) > 1}
    faults += [Fault(name, "is set more than once") for name in sorted(twice)]
    if faults:
        raise InvalidInput("The serving policy is not usable.", tuple(faults))
    return {name: value for name, _, value in pairs}


def _print(model: str, history: list[PolicyChange], as_json: bool) -> None:
    policy, default = history[-1].policy if history else ServingPolicy(), asdict(ServingPolicy())
    rows = [(name, str(value), str(default[name])) for name, value in asdict(policy).items()]
    document = {"model": model, "policy": asdict(policy),
                "history": [asdict(change) for change in history]}  # fmt: skip
    columns = ("field", "Value", "Default")
    emit(document, as_json, lambda: stdout.print(table(f"Serving {model}", columns, rows)))
