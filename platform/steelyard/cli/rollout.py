"""``steelyard rollout``: gradual delivery of a version."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table

from steelyard.bootstrap import Platform
from steelyard.cli.output import emit, note, stderr, stdout, table
from steelyard.cli.serving import Override, actor, may_override, version_of
from steelyard.cli.waiting import follow, require_up
from steelyard.domain.errors import Fault, InvalidInput, NotFound
from steelyard.domain.model_version import parse_ref
from steelyard.domain.presets import PRESETS, ByHand, PresetName, adapted
from steelyard.domain.rollout import Rollout
from steelyard.settings import load_settings

app = typer.Typer(help="Roll a version out gradually.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Model = Annotated[str, typer.Argument(metavar="MODEL")]
PRESETS_OWN = "the preset's"


@app.command("start")
def start(
    model: Annotated[str, typer.Argument(metavar="MODEL/VERSION")],
    preset: Annotated[PresetName, typer.Option(help="The plan to start from.")] = "standard",
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
    """Start a rollout beside the stable version; the controller carries it out."""
    name, version = version_of(model)
    weights = None if steps is None else _weights(steps)
    by_hand = ByHand(
        weights, bake, min_requests, interval, label_maturity, keep_warm, label_tolerance
    )
    plan = adapted(PRESETS[preset], by_hand)
    platform = Platform(load_settings())
    require_up(platform)
    may_override(platform.settings, override_gates)
    rollout = platform.rollouts.start(name, version, plan, actor(), override_gates)
    _tell(rollout, as_json)
    note(f"Watch it: steelyard rollout status {name} --watch")


@app.command("status")
def status(
    model: Model,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it until it ends.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to watch at most.")] = 86400,
    as_json: AsJson = False,
) -> None:
    """Show the open rollout, or the newest one: weight, requests, errors, evidence."""
    platform = Platform(load_settings())
    name = parse_ref(model).model
    rollout = _newest(platform, name)
    if watch:
        rollout = _watch(platform, rollout, timeout)
    document = {**_document(rollout), "versions": platform.predictions.counts(
        name, since_us=rollout.created_us
    )}  # fmt: skip
    emit(document, as_json, lambda: stdout.print(live_table(platform, rollout)))


def _watch(platform: Platform, rollout: Rollout, timeout_s: float) -> Rollout:
    """A table that redraws itself on a terminal, a line a change in a log."""
    if not stderr.is_terminal:
        return follow(
            platform, rollout.rollout_id, lambda r: _line(platform, r), timeout_s
        )  # fmt: skip
    with Live(console=stderr, refresh_per_second=4) as live:
        return follow(
            platform, rollout.rollout_id, lambda r: live.update(live_table(platform, r)), timeout_s
        )  # fmt: skip


def _line(platform: Platform, rollout: Rollout) -> None:
    counts = platform.predictions.counts(rollout.model, since_us=rollout.created_us)
    seen = "; ".join(
        f"version {c['version']}: {c['requests']} requests, {c['errors']} errors, "
        f"{c['wrong']} of {c['labelled']} wrong"
        for c in counts
    )
    note(f"  {rollout.weight_bp / 100:>3g} %  {rollout.reason}  [{seen or 'no requests yet'}]")


def live_table(platform: Platform, rollout: Rollout) -> Table:
    """Weight, requests, errors and wrong answers per version since the rollout began."""
    counts = {
        row["version"]: row
        for row in platform.predictions.counts(rollout.model, since_us=rollout.created_us)
    }
    arms = [(rollout.candidate, rollout.weight_bp)]
    if rollout.stable is not None:
        arms.insert(0, (rollout.stable, 10_000 - rollout.weight_bp))
    rows = []
    for version, weight in arms:
        row = counts.get(version, {})
        rows.append((
            version, "canary" if version == rollout.candidate else "stable", f"{weight / 100:g} %",
            row.get("requests", 0), row.get("errors", 0),
            f"{row['wrong']} of {row['labelled']}" if row.get("labelled") else None,
        ))  # fmt: skip
    title = f"{rollout.model}: {rollout.condition} – {rollout.reason}"
    return table(title, ("Version", "arm", "Weight", "Requests", "Errors", "Wrong"), rows)


@app.command("pause")
def pause(model: Model, as_json: AsJson = False) -> None:
    """Keep the weight where it is; the canary stays guarded."""
    _act(model, as_json, lambda platform, name: platform.rollouts.pause(name, actor()))


@app.command("resume")
def resume(model: Model, as_json: AsJson = False) -> None:
    """Go on at the same step."""
    _act(model, as_json, lambda platform, name: platform.rollouts.resume(name, actor()))


@app.command("promote")
def promote(
    model: Model,
    full: Annotated[bool, typer.Option("--full", help="To 100 % at once.")] = False,
    as_json: AsJson = False,
) -> None:
    """Skip the rest of this step, or of all of them."""
    _act(model, as_json, lambda platform, name: platform.rollouts.promote(name, actor(), full))


@app.command("abort")
def abort(
    model: Model,
    reason: Annotated[str, typer.Option(help="Why; kept in the history.")] = "aborted by hand",
    as_json: AsJson = False,
) -> None:
    """Give all traffic back to stable."""
    _act(model, as_json, lambda platform, name: platform.rollouts.abort(name, actor(), reason))


@app.command("history")
def history(model: Model, as_json: AsJson = False) -> None:
    """Show promotions and every event of the newest rollouts: who, when, why."""
    platform = Platform(load_settings())
    name = parse_ref(model).model
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


def _act(model: str, as_json: bool, act: Callable[[Platform, str], Rollout]) -> None:
    _tell(act(Platform(load_settings()), parse_ref(model).model), as_json)


def _newest(platform: Platform, model: str) -> Rollout:
    found = platform.rollout_store.rollouts(model, limit=1)
    if not found:
        raise NotFound(
            f"{model} was never deployed or rolled out.", f"First: steelyard deploy {model}/1."
        )
    return found[0].rollout


def _tell(rollout: Rollout, as_json: bool) -> None:
    line = f"{rollout.model}/{rollout.candidate}: {rollout.condition}, {rollout.reason}"
    emit(_document(rollout), as_json, lambda: stdout.print(line, markup=False))


def _document(rollout: Rollout) -> dict[str, Any]:
    return {**asdict(rollout), "phase": rollout.phase}


def _weights(text: str) -> tuple[float, ...]:
    with suppress(ValueError):
        weights = tuple(float(part) for part in text.split(","))
        if all(map(math.isfinite, weights)):
            return weights
    fault = Fault("--steps", f"{text!r} is not a list of percents")
    raise InvalidInput(str(fault), (fault,), "Write 5,25,50,100.")
