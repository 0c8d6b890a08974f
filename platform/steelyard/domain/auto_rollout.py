"""Which compressed variant may roll out by itself: a rule that is off unless somebody sets it.

Publishing a version moves no traffic. An operator may let compressed variants of the stable
version go on by themselves, each once, with a plan that he names and after the same gates.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from steelyard.domain.model_version import Relation
from steelyard.domain.rollout_plan import Plan

COMPRESSED: frozenset[Relation] = frozenset({"quantized", "pruned", "distilled"})


@dataclass(frozen=True, slots=True)
class AutoRollout:
    """What a model's compressed variants do by themselves, who set it, when and why.

    ``plan`` None: nothing. ``plan_name`` is the preset's or the file's. ``since_us`` is when it
    was switched on: versions that are older wait for a person.
    """

    model: str
    plan: Plan | None
    plan_name: str
    actor: str
    reason: str
    set_us: int
    since_us: int


@dataclass(frozen=True, slots=True)
class Registered:
    """What the rule needs of a version."""

    version: int
    parent: int | None
    relation: str
    created_us: int


@dataclass(frozen=True, slots=True)
class Situation:
    """How a model stands: ``tried`` are the candidates of all its rollouts, whoever began them."""

    stable: int | None
    open_rollout: bool
    drifts: bool
    tried: Collection[int]


def policy_actor(model: str) -> str:
    """Who starts such a rollout, in every history."""
    return f"policy:{model}"


def eligible(
    setting: AutoRollout | None, versions: Iterable[Registered], now: Situation
) -> tuple[int, ...]:
    """The variants that may begin if their gates say so, lowest first.

    None while a rollout is open or the registry's aliases drift: a person is at work.
    """
    if setting is None or setting.plan is None or now.stable is None:
        return ()
    if now.open_rollout or now.drifts:
        return ()
    return tuple(sorted(
        v.version for v in versions
        if v.parent == now.stable and v.relation in COMPRESSED
        and v.created_us >= setting.since_us and v.version not in now.tried
    ))  # fmt: skip
