"""``steelyard rollout``: gradual delivery of a version."""

import math
import re
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table

from steelyard.bootstrap import Platform, check_operator
from steelyard.cli.output import emit, note, stderr, stdout, table
from steelyard.cli.rollout_insight import AsJson, PlanFile, add_commands, moment
from steelyard.cli.rollout_plan_file import read_plan
from steelyard.cli.serving import Override, actor, may_override, version_of
from steelyard.cli.waiting import follow, require_up
from steelyard.domain.errors import Fault, InvalidInput, NotFound
from steelyard.domain.model_version import parse_ref
from steelyard.domain.presets import PRESETS, ByHand, PresetName, adapted
from steelyard.domain.promotion import serving_at
from steelyard.domain.rollout import Rollout
from steelyard.domain.rollout_verbs import Verb
from steelyard.settings import load_settings

app = typer.Typer(help="Roll a version out gradually.", no_args_is_help=True)
Model = Annotated[str, typer.Argument(metavar="MODEL")]
Reason = Annotated[str, typer.Option(help="Why; kept in the history.")]
PRESETS_OWN = "the preset's"
add_commands(app)


@app.command("start")
def start(
    model: Annotated[str, typer.Argument(metavar="MODEL/VERSION")],
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
    """Start a rollout beside the stable version; the controller carries it out."""
    name, version = version_of(model)
    weights = None if steps is None else _weights(steps)
    by_hand = ByHand(
        weights, bake, min_requests, interval, label_maturity, keep_warm, label_tolerance
    )
    plan = adapted(PRESETS[preset] if file is None else read_plan(file), by_hand)
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
        return follow(platform, rollout.rollout_id, _Lines(platform), timeout_s)
    with Live(console=stderr, refresh_per_second=4) as live:
        return follow(
            platform, rollout.rollout_id, lambda r: live.update(live_table(platform, r)), timeout_s
        )  # fmt: skip


class _Lines:
    """A line whenever a rollout says something new; a countdown alone is nothing new."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._last = ""

    def __call__(self, rollout: Rollout) -> None:
        said = f"{rollout.weight_bp} {re.sub('[0-9]+', '', rollout.reason)}"
        if said == self._last:
            return
        self._last = said
        counts = self._platform.predictions.counts(rollout.model, since_us=rollout.created_us)
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
    _act(model, "pause", as_json)


@app.command("resume")
def resume(model: Model, as_json: AsJson = False) -> None:
    """Go on at the same step."""
    _act(model, "resume", as_json)


@app.command("promote")
def promote(
    model: Model,
    skip_step: Annotated[bool, typer.Option("--skip-step", help="To the next step now.")] = False,
    full: Annotated[bool, typer.Option("--full", help="To 100 % at once: for operators.")] = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Skip the rest of this step, which is what it does unless told otherwise, or of all of them.

    Readiness is never skipped, and neither is the protection against a bad canary.
    """
    if full and skip_step:
        fault = Fault("--full", "goes past every step, --skip-step past one")
        raise InvalidInput(str(fault), (fault,), "Give one of them.")
    _act(model, "promote_full" if full else "promote", as_json, reason, operator=full)


@app.command("approve")
def approve(model: Model, reason: Reason = "", as_json: AsJson = False) -> None:
    """Let a rollout that waits for it take its next step: for operators."""
    _act(model, "approve", as_json, reason, operator=True)


@app.command("reject")
def reject(model: Model, reason: Reason = "", as_json: AsJson = False) -> None:
    """Refuse the next step of a rollout that waits: all traffic goes back. For operators."""
    _act(model, "reject", as_json, reason, operator=True)


@app.command("abort")
def abort(model: Model, reason: Reason = "", as_json: AsJson = False) -> None:
    """Give all traffic back to stable."""
    _act(model, "abort", as_json, reason)


@app.command("retry")
def retry(model: Model, override_gates: Override = None, as_json: AsJson = False) -> None:
    """Start an aborted rollout once more: the same plan, and each unit where it was."""
    platform = Platform(load_settings())
    may_override(platform.settings, override_gates)
    _tell(platform.rollouts.retry(parse_ref(model).model, actor(), override_gates), as_json)


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
    name = parse_ref(model).model
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


def _act(
    model: str, verb: Verb, as_json: bool, reason: str = "", operator: bool = False
) -> None:  # fmt: skip
    platform = Platform(load_settings())
    if operator:
        check_operator(platform.settings)
    _tell(platform.rollouts.act(parse_ref(model).model, verb, actor(), reason), as_json)


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
