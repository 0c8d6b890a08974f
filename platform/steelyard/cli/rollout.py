"""``steelyard rollout``: gradual delivery of a version."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from steelyard.bootstrap import Platform
from steelyard.cli import (
    rollout_pin,
    rollout_registry,
    rollout_rehearsal,
    rollout_status,
    rollout_steering,
)
from steelyard.cli.output import emit, note, stdout, table
from steelyard.cli.rollout_insight import AsJson, PlanFile, add_commands, moment
from steelyard.cli.rollout_plan_file import read_plan
from steelyard.cli.rollout_telling import tell
from steelyard.cli.serving import Override, actor, may_override
from steelyard.cli.waiting import require_up
from steelyard.domain.errors import Fault, InvalidInput, NotFound
from steelyard.domain.model_version import parse_model, parse_ref
from steelyard.domain.presets import PRESETS, ByHand, PresetName, adapted
from steelyard.domain.promotion import serving_at
from steelyard.settings import load_settings

app = typer.Typer(help="Roll a version out gradually.", no_args_is_help=True)
Model = Annotated[str, typer.Argument(metavar="MODEL")]
PRESETS_OWN = "the preset's"
add_commands(app)
rollout_pin.add_commands(app)
rollout_registry.add_commands(app)
rollout_status.add_commands(app)
rollout_steering.add_commands(app)
rollout_rehearsal.add_commands(app)


@app.command("start")
def start(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL/VERSION...", help="Several are compared beside stable."),
    ],
    preset: Annotated[PresetName, typer.Option(help="The plan to start from.")] = "standard",
    file: PlanFile = None,
    steps: Annotated[
        str | None,
        typer.Option(help="Weights in percent, growing to 100.", show_default=PRESETS_OWN),
    ] = None,
    bake: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds a step lasts at least.", show_default=PRESETS_OWN),
    ] = None,
    min_requests: Annotated[
        int | None,
        typer.Option(min=0, help="Canary requests a step needs.", show_default=PRESETS_OWN),
    ] = None,
    interval: Annotated[
        float | None,
        typer.Option(min=0.1, help="Seconds of one row of evidence.", show_default=PRESETS_OWN),
    ] = None,
    label_maturity: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds a label may take.", show_default=PRESETS_OWN),
    ] = None,
    label_tolerance: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="Wrong answers, as a multiple of stable's, that are borne.",
            show_default=PRESETS_OWN,
        ),
    ] = None,
    keep_warm: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds the old one stays ready.", show_default=PRESETS_OWN),
    ] = None,
    override_gates: Override = None,
    as_json: AsJson = False,
) -> None:
    """Start a rollout beside the stable version; the controller carries it out.

    Where the plan names its candidates, MODEL is enough. Several versions share the traffic that
    their steps give them, and the best takes all of it.
    """
    name, versions = _versions(models)
    weights = None if steps is None else _weights(steps)
    by_hand = ByHand(
        weights, bake, min_requests, interval, label_maturity, keep_warm, label_tolerance
    )
    plan = adapted(PRESETS[preset] if file is None else read_plan(file), by_hand)
    platform = Platform(load_settings())
    require_up(platform)
    may_override(platform.settings, override_gates)
    begun = platform.rollouts.start_together(name, versions, plan, actor(), override_gates)
    tell(begun, as_json)
    note(f"Watch it: steelyard rollout status {name} --watch")


@app.command("history")
def history(
    model: Model,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Which version had all traffic then.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show promotions and every event of the newest rollouts: who, when, why."""
    platform = Platform(load_settings())
    name = parse_model(model)
    if at is not None:
        _tell_moment(platform, name, moment(at), as_json)
        return
    rollouts = [s.rollout for s in platform.rollout_store.rollouts(name, limit=20)]
    events = [e for r in reversed(rollouts) for e in platform.rollout_store.events(r.rollout_id)]
    promotions = [asdict(p) for p in platform.rollout_store.promotions(name)]
    cells = [
        [e["rollout_id"], e["actor"], e["verb"], e["to_condition"], f"{e['weight_bp'] / 100:g} %",
         e["reason"]]
        for e in events
    ]  # fmt: skip
    shown = table(name, ("rollout", "actor", "verb", "condition", "Weight", "reason"), cells)
    document = {"promotions": promotions, "events": events}
    emit(document, as_json, lambda: stdout.print(shown))


def _tell_moment(platform: Platform, model: str, at_us: int, as_json: bool) -> None:
    found = serving_at(platform.rollout_store.promotions(model), at_us)
    if found is None:
        raise NotFound(f"{model} had no version with all traffic then.")
    document = asdict(found)
    since = datetime.fromtimestamp(found.at_us / 1e6, UTC).isoformat(timespec="seconds")
    line = (
        f"{model}/{found.to_version} since {since}, {found.verb} by {found.actor}: {found.reason}"
    )
    emit(document, as_json, lambda: stdout.print(line, markup=False))


def _versions(models: Sequence[str]) -> tuple[str, tuple[int, ...]]:
    refs = [parse_ref(one) for one in models]
    name = refs[0].model
    if any(ref.model != name for ref in refs):
        fault = Fault("model", f"is one and the same, found {', '.join(models)}")
        raise InvalidInput(str(fault), (fault,), "Compare versions of one model.")
    if len(refs) > 1 and any(ref.version is None for ref in refs):
        fault = Fault("model", f"{', '.join(models)}: a version is missing")
        raise InvalidInput(str(fault), (fault,), f"Write {name}/1 {name}/2, for example.")
    return name, tuple(ref.version for ref in refs if ref.version is not None)


def _weights(text: str) -> tuple[float, ...]:
    with suppress(ValueError):
        weights = tuple(float(part) for part in text.split(","))
        if all(map(math.isfinite, weights)):
            return weights
    fault = Fault("--steps", f"{text!r} is not a list of percents")
    raise InvalidInput(str(fault), (fault,), "Write 5,25,50,100.")
