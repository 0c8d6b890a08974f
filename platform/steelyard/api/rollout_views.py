"""What the pages show of a rollout: where it stands on its steps, and what each version did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from steelyard.domain.aliases import AliasDrift
from steelyard.domain.analysis import Verdict
from steelyard.domain.candidates import stable_share
from steelyard.domain.promotion import Promotion
from steelyard.domain.rollout import Rollout

StepState = Literal["done", "present", "stopped", "to come"]


@dataclass(frozen=True, slots=True)
class StepView:
    """A step of the plan and where it stands."""

    number: int
    weight_bp: int
    bake_s: float
    min_requests: int
    state: StepState
    shadow_bp: int


@dataclass(frozen=True, slots=True)
class ArmView:
    """What one version answered since the rollout began, and how its application is.

    ``application`` is None when it does not run. ``wrong`` counts among ``labelled``.
    """

    version: int
    role: str
    weight_bp: int | None
    application: str | None
    application_reason: str
    requests: int
    errors: int
    labelled: int
    wrong: int


@dataclass(frozen=True, slots=True)
class BesideView:
    """Another open rollout of the model, and the verdicts on its candidate."""

    rollout: Rollout
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class RolloutView:
    """The open rollout of a model, else its last one; None before the first deployment.

    ``beside`` are the other open ones, of candidates that it is compared with.
    """

    model: str
    stable: int | None
    rollout: Rollout | None
    steps: tuple[StepView, ...]
    arms: tuple[ArmView, ...]
    verdicts: tuple[Verdict, ...]
    events: tuple[Mapping[str, Any], ...]
    promotions: tuple[Promotion, ...]
    drifts: tuple[AliasDrift, ...] = ()
    beside: tuple[BesideView, ...] = ()


def steps(rollout: Rollout) -> tuple[StepView, ...]:
    """The plan's steps, with where the rollout is on them."""
    found = []
    for index in range(len(rollout.plan.steps)):
        step = rollout.step_at(index)
        state: StepState = "to come"
        if rollout.condition == "healthy" or index < rollout.step:
            state = "done"
        elif index == rollout.step:
            halted = rollout.condition in ("aborting", "degraded", "failed")
            state = "stopped" if halted else "present"
        found.append(StepView(
            index + 1, step.weight_bp, step.bake_s, step.min_requests, state, step.shadow_bp
        ))  # fmt: skip
    return tuple(found)


def arms(
    rollout: Rollout, stable: int | None, counts: Sequence[Mapping[str, Any]],
    running: Mapping[int, Mapping[str, Any]], beside: Sequence[Rollout] = (),
) -> tuple[ArmView, ...]:  # fmt: skip
    """The versions of the rollout first, then others that answered since it began."""
    counted = {int(row["version"]): row for row in counts}
    candidates = (rollout, *beside)
    roles = {one.candidate: "candidate" for one in candidates}
    if rollout.stable is not None:
        roles[rollout.stable] = "stable"
    if stable is not None and not rollout.is_open:
        roles[stable] = "stable"
    others = sorted(set(counted) - set(roles))
    found = []
    for version in [*sorted(roles), *others]:
        row = counted.get(version, {})
        application = running.get(version, {})
        found.append(
            ArmView(
                version, roles.get(version, "pinned"), _weight(candidates, stable, version),
                application.get("phase"), application.get("reason", ""),
                *(int(row.get(k, 0)) for k in ("requests", "errors", "labelled", "wrong")),
            )
        )  # fmt: skip
    return tuple(found)


def _weight(candidates: Sequence[Rollout], stable: int | None, version: int) -> int | None:
    """The intended share of traffic in basis points; None for a version outside the rollout."""
    if not candidates[0].is_open:
        return 10_000 if version == stable else 0
    weights = {one.candidate: one.weight_bp for one in candidates}
    if version in weights:
        return weights[version]
    return stable_share(candidates) if version == candidates[0].stable else None
