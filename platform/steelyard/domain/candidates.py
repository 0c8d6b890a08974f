"""Several candidates of one model beside each other: their regions, their table, their end."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from steelyard.domain.advance import abort
from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.rollout import Rollout
from steelyard.domain.rollout_plan import Candidate, Plan
from steelyard.domain.traffic import BUCKETS, Route, Share, in_order


@dataclass(frozen=True, slots=True)
class Region:
    """The buckets in which a candidate grows: ``max_weight_bp`` from ``offset_bp`` on."""

    version: int
    offset_bp: int
    max_weight_bp: int


def together(plan: Plan, versions: Sequence[int]) -> Plan:
    """The plan with its candidates: those it names, else these versions with equal regions.

    Raises:
        InvalidInput: nobody says which versions, or the plan says other ones.
    """
    named = sorted(candidate.version for candidate in plan.candidates)
    if named and versions and named != sorted(versions):
        fault = Fault("candidates", f"are {_listed(named)}, asked for: {_listed(sorted(versions))}")
        raise InvalidInput(str(fault), (fault,), "Name the plan's versions, or none.")
    if named:
        return plan
    if not versions:
        fault = Fault("candidates", "are missing")
        raise InvalidInput(str(fault), (fault,), "Name a version: MODEL/VERSION.")
    share = BUCKETS // len(versions)
    return replace(plan, candidates=tuple(Candidate(version, share) for version in versions))


def regions(plan: Plan) -> tuple[Region, ...]:
    """The candidates' regions, one after the other from bucket 0 on."""
    found: list[Region] = []
    offset = 0
    for candidate in plan.candidates:
        found.append(Region(candidate.version, offset, candidate.max_weight_bp))
        offset += candidate.max_weight_bp
    return tuple(found)


def apart(one: Rollout, other: Rollout) -> bool:
    """Whether two open rollouts may be beside each other: of one group, in regions of their own."""
    of_one_group = (one.lineage, one.stable) == (other.lineage, other.stable)
    if not of_one_group or one.candidate == other.candidate:
        return False
    first, second = sorted((one, other), key=lambda rollout: rollout.offset_bp)
    return first.offset_bp + first.max_weight_bp <= second.offset_bp


def settled(rollouts: Sequence[Rollout], now_us: int) -> tuple[Rollout, ...]:
    """Once one takes all traffic, the others end in the same table."""
    whole = [one for one in rollouts if one.is_open and one.weight_bp == BUCKETS]
    if not whole:
        return tuple(rollouts)
    winner = min(whole, key=lambda one: (one.confirmed_us is None, one.candidate))
    why = f"version {winner.candidate} was chosen"
    return tuple(
        one if one is winner or not one.is_open or one.condition == "aborting"
        else abort(one, why, now_us)
        for one in rollouts
    )  # fmt: skip


def stable_share(rollouts: Sequence[Rollout]) -> int:
    """The buckets that the candidates of a model leave to stable."""
    return BUCKETS - sum(one.weight_bp for one in rollouts)


def moved(before: Rollout, after: Rollout) -> bool:
    """Whether this change of a rollout is one of traffic: a step, a weight, or its end."""
    return (before.step, before.weight_bp, before.is_open) != (
        after.step, after.weight_bp, after.is_open
    )  # fmt: skip


def table(rollouts: Sequence[Rollout], live: Route | None) -> Route | None:
    """The weight table that a model's open rollouts and those that just ended ask for.

    None while they ask for none: nothing has been given traffic yet. ``live`` is the newest table.
    """
    stepped = [one for one in rollouts if one.is_open and one.step >= 0]
    if stepped:
        return _shared(stepped)
    healthy = [one for one in rollouts if one.condition == "healthy"]
    if healthy:
        return Route(healthy[0].model, healthy[0].candidate, 0)
    if live is None or any(one.is_open for one in rollouts):
        return None
    ours = [one for one in rollouts if one.lineage == live.lineage and one.stable is not None]
    return Route(live.model, live.stable, 0) if ours else None


def new_table(rollouts: Sequence[Rollout], live: Route | None) -> Route | None:
    """``table`` where it is another one than ``live``, or somebody's step waits for a number."""
    wanted = table(rollouts, live)
    waiting = any(one.is_open and one.step >= 0 and one.confirmed_us is None for one in rollouts)
    if wanted is None or live is None or waiting:
        return wanted
    return None if wanted == replace(live, generation=0) else wanted


def _shared(stepped: Sequence[Rollout]) -> Route:
    first = stepped[0]
    if first.stable is None:
        return Route(first.model, first.candidate, 0, lineage=first.lineage)
    shares = [
        Share(one.candidate, 0 if one.weight_bp == BUCKETS else one.offset_bp, one.weight_bp)
        for one in stepped
    ]
    return Route(first.model, first.stable, 0, in_order(shares), first.lineage)


def _listed(versions: Sequence[int]) -> str:
    return ", ".join(map(str, versions))
