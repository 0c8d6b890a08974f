"""The rollout that a workflow asks for: started when all has passed, else why not, what then."""

from collections.abc import Sequence
from dataclasses import dataclass

from steelyard.bootstrap import Platform
from steelyard.cli.output import note
from steelyard.cli.serving import actor
from steelyard.cli.waiting import require_up
from steelyard.domain.errors import Conflict, Refused
from steelyard.domain.gates import Finding
from steelyard.domain.model_version import ModelVersion
from steelyard.domain.presets import PRESETS, ByHand, adapted
from steelyard.domain.rollout import Rollout as Running
from steelyard.domain.rollout_plan import Plan, shortest_s
from steelyard.settings import Settings
from steelyard_workflows.afterwards.evaluation_sets import Judged
from steelyard_workflows.workflow import Rollout


@dataclass(frozen=True, slots=True)
class Started:
    """A version on its way to all traffic, or there."""

    version: str
    preset: str
    rollout_id: str | None
    state: str


def plan_of(asked: Rollout) -> Plan:
    """The preset with what the workflow says of it."""
    return adapted(PRESETS[asked.preset], ByHand(label_tolerance=asked.label_tolerance))


def command(asked: Rollout, version: str) -> str:
    """What a person types to start the same rollout."""
    tolerance = asked.label_tolerance
    more = "" if tolerance is None else f" --label-tolerance {tolerance:g}"
    return f"steelyard rollout start {version} --preset {asked.preset}{more}"


def require_passed(
    version: str, judged: Sequence[Judged], findings: Sequence[Finding]
) -> None:  # fmt: skip
    """Refuse to roll out what failed a set or a gate; both are said with their figures.

    Raises:
        Refused: an accuracy is below what was asked, or a gate is not passed.
    """
    short = [str(one) for one in judged if not one.passed]
    if short:
        raise Refused(
            f"{version} is not rolled out: {'; '.join(short)}.",
            "Train a better version, or ask for less: min_accuracy of the set.",
        )
    shut = [f"{f.gate}: {f.verdict} ({f.why})" for f in findings if f.verdict != "pass"]
    if shut:
        raise Refused(
            f"{version} is not rolled out, its gates are not passed: {'; '.join(shut)}.",
            "Make a better variant, or ask for less: gates of the variant.",
        )


def start(asked: Rollout, version: ModelVersion, settings: Settings) -> Started:
    """Start the rollout beside stable; one that goes on or has ended well is left as it is.

    Raises:
        Unavailable: the platform is not up.
        Conflict: the model is not deployed yet, or another rollout is open.
        Refused: the platform's own gates say no.
    """
    platform = Platform(settings)
    require_up(platform)
    rollouts, model, number = platform.rollouts, version.model, version.version
    stable = rollouts.stable(model)
    if stable is None:
        raise Conflict(
            f"{model} is not deployed yet: there is nothing to roll out beside.",
            f"First: steelyard deploy {model}/{version.parent or number}",
        )
    opened = [stored.rollout for stored in platform.rollout_store.open_rollouts(model)]
    ours = (one for one in opened if one.candidate == number)
    found = going_on(version, stable, next(ours, next(iter(opened), None)))
    if found is None:
        begun = rollouts.start(model, number, plan_of(asked), actor())
        at_least = shortest_s(begun.plan) / 60
        state = f"rollout {begun.rollout_id} ({asked.preset}) began, {at_least:.0f} min at least"
        found = Started(version.name, asked.preset, begun.rollout_id, state)
    note(f"  {version.name}: {found.state}; watch it: steelyard rollout status {model} --watch")
    return found


def going_on(version: ModelVersion, stable: int, running: Running | None) -> Started | None:
    """What need not be started again: all traffic already, or on the way there."""
    if running is not None and running.candidate == version.version:
        state = f"rollout {running.rollout_id} goes on: {running.reason}"
        return Started(version.name, "", running.rollout_id, state)
    if running is None and stable == version.version:
        return Started(version.name, "", None, "has all traffic already")
    return None
