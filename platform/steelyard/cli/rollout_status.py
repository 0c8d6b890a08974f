"""``steelyard rollout status``: how the open rollouts of a model, or its newest one, move."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.live import Live

from steelyard.bootstrap import Platform
from steelyard.cli import rollout_registry
from steelyard.cli.output import emit, note, stderr, stdout
from steelyard.cli.rollout_insight import AsJson
from steelyard.cli.rollout_telling import arms_table, attempt, document
from steelyard.cli.waiting import follow
from steelyard.domain.errors import NotFound
from steelyard.domain.model_version import parse_model
from steelyard.domain.rollout import Rollout
from steelyard.settings import load_settings


def add_commands(app: typer.Typer) -> None:
    """Add the command to ``steelyard rollout``."""
    app.command("status")(status)


def status(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    watch: Annotated[bool, typer.Option("--watch", help="Follow it until it ends.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to watch at most.")] = 86400,
    as_json: AsJson = False,
) -> None:
    """Show the open rollouts, or the newest one: weights, requests, errors, evidence."""
    platform = Platform(load_settings())
    name = parse_model(model)
    rollouts = _shown(platform, name)
    if watch:
        rollouts = _watch(platform, rollouts, timeout)
    told = [_told(platform, one) for one in rollouts]
    found = {
        **told[0],
        "beside": told[1:],
        "versions": platform.predictions.counts(name, since_us=rollouts[0].created_us),
        "drifts": [asdict(one) for one in platform.aliases.standing(name)],
        **rollout_registry.auto_document(platform, name),
    }

    def show() -> None:
        stdout.print(arms_table(platform, rollouts))
        for one in rollouts:
            whose = f"{name}/{one.candidate}: " if len(rollouts) > 1 else ""
            for verdict in platform.rollout_evidence.verdicts(one):
                stdout.print(f"{whose}{verdict.summary}", markup=False)
        rollout_registry.tell_drifts(platform.aliases.standing(name))
        rollout_registry.tell_auto(name, platform)

    emit(found, as_json, show)


def _shown(platform: Platform, model: str) -> list[Rollout]:
    store = platform.rollout_store
    found = store.open_rollouts(model) or store.rollouts(model, limit=1)
    if not found:
        raise NotFound(
            f"{model} was never deployed or rolled out.", f"First: steelyard deploy {model}/1."
        )
    return [stored.rollout for stored in found]


def _told(platform: Platform, rollout: Rollout) -> dict[str, Any]:
    verdicts = platform.rollout_evidence.verdicts(rollout)
    return {
        **document(rollout),
        "attempt": attempt(platform, rollout),
        "verdicts": [asdict(one) | {"counted": one.counted} for one in verdicts],
    }


def _watch(platform: Platform, rollouts: Sequence[Rollout], timeout_s: float) -> list[Rollout]:
    """A table that redraws itself on a terminal, a line a change in a log."""
    names = [one.rollout_id for one in rollouts]
    if not stderr.is_terminal:
        return follow(platform, names, _Lines(platform), timeout_s)
    with Live(console=stderr, refresh_per_second=4) as live:
        return follow(
            platform, names, lambda found: live.update(arms_table(platform, found)), timeout_s
        )


class _Lines:
    """A line whenever a rollout says something new; a countdown alone is nothing new."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._last: dict[str, str] = {}

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        for rollout in rollouts:
            said = f"{rollout.weight_bp} {re.sub('[0-9]+', '', rollout.reason)}"
            if said != self._last.get(rollout.rollout_id):
                self._last[rollout.rollout_id] = said
                whose = f"{rollout.candidate}: " if len(rollouts) > 1 else ""
                self._tell(rollout, whose)

    def _tell(self, rollout: Rollout, whose: str) -> None:
        counts = self._platform.predictions.counts(rollout.model, since_us=rollout.created_us)
        seen = "; ".join(
            f"version {c['version']}: {c['requests']} requests, {c['errors']} errors, "
            f"{c['wrong']} of {c['labelled']} wrong"
            for c in counts
        )
        note(f"  {whose}{rollout.weight_bp / 100:>3g} %  {rollout.reason}  "
             f"[{seen or 'no requests yet'}]")  # fmt: skip
