"""``steelyard rollout adopt | restore | auto``: the registry and rollouts."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from steelyard.bootstrap import Platform
from steelyard.bootstrap.access import check_operator
from steelyard.cli.output import emit, note, stdout
from steelyard.cli.rollout_insight import AsJson, PlanFile
from steelyard.cli.rollout_plan_file import read_plan
from steelyard.cli.rollout_telling import tell
from steelyard.cli.serving import Override, actor
from steelyard.domain.aliases import ALIASES, AliasDrift
from steelyard.domain.auto_rollout import AutoRollout
from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.model_version import parse_model
from steelyard.domain.presets import PRESETS, PresetName
from steelyard.domain.rollout_plan import Plan
from steelyard.services.auto_rollouts import Waiting
from steelyard.settings import load_settings

Model = Annotated[str, typer.Argument(metavar="MODEL")]
Reason = Annotated[str, typer.Option(help="Why; kept in the history.")]
Alias = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only this alias: champion, challenger, …")
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands to ``steelyard rollout``."""
    for command in (adopt, restore, auto):
        app.command(command.__name__)(command)


def adopt(
    model: Model,
    preset: Annotated[PresetName, typer.Option(help="The plan to roll out by.")] = "standard",
    file: PlanFile = None, alias: Alias = None, reason: Reason = "",
    override_gates: Override = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """The registry's alias is right: roll its version out, step by step. For operators."""
    platform = _as_operator()
    plan = PRESETS[preset] if file is None else read_plan(file)
    name = parse_model(model)
    rollout = platform.drifts.adopt(name, plan, actor(), reason, _known(alias), override_gates)
    tell([rollout], as_json)
    note(f"Watch it: steelyard rollout status {name} --watch")


def restore(
    model: Model, alias: Alias = None, reason: Reason = "", as_json: AsJson = False
) -> None:  # fmt: skip
    """Our history is right: set its aliases back in the registry. For operators; no traffic."""
    platform = _as_operator()
    name = parse_model(model)
    done = platform.drifts.restore(name, actor(), reason, _known(alias))

    def show() -> None:
        for one in done:
            where = "nowhere" if one.expected is None else f"version {one.expected}"
            stdout.print(f"{name}: {one.alias} is {where} again.")

    emit({"restored": [asdict(one) for one in done]}, as_json, show)
    if any(
        stored.rollout.cause == "drift" for stored in platform.rollout_store.open_rollouts(name)
    ):
        note(f"A rollout that waits goes on: steelyard rollout resume {name}")


def auto(
    model: Model,
    plan: Annotated[
        str | None, typer.Option(metavar="PRESET|FILE.yaml", help="The plan to roll out by.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Nothing begins by itself any more.")] = False,
    reason: Reason = "", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Let compressed variants of the stable version roll out by themselves, or say what is set."""
    if plan is not None and off:
        fault = Fault("--off", "and --plan say the opposite of each other")
        raise InvalidInput(str(fault), (fault,), "Give one of them.")
    name = parse_model(model)
    platform = Platform(load_settings())
    if plan is not None or off:
        check_operator(platform.settings)
        chosen = None if plan is None else _plan(plan)
        platform.auto_rollouts.set(name, chosen, plan or "", actor(), reason)
    document = auto_document(platform, name)
    document["history"] = [asdict(one) for one in platform.auto_rollouts.history(name)]
    emit(document, as_json, lambda: tell_auto(name, platform, always=True))


def auto_document(platform: Platform, model: str) -> dict[str, Any]:
    """What is set for a model, and the variants that it is about."""
    setting, waiting = _auto(platform, model)
    return {"auto": None if setting is None else asdict(setting),
            "waiting": [asdict(one) for one in waiting]}  # fmt: skip


def tell_auto(model: str, platform: Platform, always: bool = False) -> None:
    """Say what begins by itself; nothing where it is off, unless it is asked for."""
    setting, waiting = _auto(platform, model)
    if setting is None or setting.plan is None:
        if always:
            stdout.print(f"{model}: nothing rolls out by itself.")
        return
    stdout.print(
        f"auto: compressed variants of the stable version roll out by plan {setting.plan_name}, "
        f"set by {setting.actor}", markup=False,
    )  # fmt: skip
    for one in waiting:
        why = one.why_not or "passed its gates and begins"
        stdout.print(f"auto: {model}/{one.version}: {why}", markup=False)


def tell_drifts(drifts: Iterable[AliasDrift]) -> None:
    """Say which aliases others moved, and what an operator can do about each model's."""
    told = list(drifts)
    for one in told:
        stdout.print(f"drift: {one.model}: {one.summary} ({one.reason})", markup=False)
    for model in sorted({one.model for one in told}):
        note(f"Decide: steelyard rollout adopt {model}, or steelyard rollout restore {model}")


def _auto(platform: Platform, model: str) -> tuple[AutoRollout | None, list[Waiting]]:
    return platform.auto_rollouts.setting(model), platform.auto_rollouts.waiting(model)


def _as_operator() -> Platform:
    platform = Platform(load_settings())
    check_operator(platform.settings)
    return platform


def _known(alias: str | None) -> str | None:
    if alias in (None, *ALIASES):
        return alias
    fault = Fault("--alias", f"{alias!r} is none of ours")
    raise InvalidInput(str(fault), (fault,), f"There are {', '.join(ALIASES)}.")


def _plan(text: str) -> Plan:
    known = {str(name): plan for name, plan in PRESETS.items()}
    return known[text] if text in known else read_plan(Path(text))
