"""A gradual rollout: its state, and what may be known of it at one moment.

Weights are basis points of the 10,000 buckets. "Confirmed" means that the edge was seen to use the
weight; only then does a step's bake time run. The rules are ``advance`` and ``rollout_verbs``.
"""

from dataclasses import dataclass, replace
from typing import Literal

from steelyard.domain.analysis import Verdict
from steelyard.domain.rollout_plan import Plan, Step
from steelyard.domain.traffic import BUCKETS

RolloutPhase = Literal["progressing", "paused", "healthy", "degraded"]
Condition = Literal[
    "preparing", "progressing", "paused", "awaiting_approval", "promoting", "probation",
    "healthy", "aborting", "degraded", "failed",
]  # fmt: skip
Cause = Literal[
    "", "manual", "inconclusive", "no_data", "metric", "shared_outage", "choice", "drift"
]
Kind = Literal["first", "canary", "undo"]
Standing = Literal["undecided", "proven", "chosen"]
OPEN: frozenset[Condition] = frozenset({
    "preparing", "progressing", "paused", "awaiting_approval", "promoting", "probation", "aborting",
})  # fmt: skip
PHASES: dict[Condition, RolloutPhase] = {
    "paused": "paused", "awaiting_approval": "paused", "healthy": "healthy",
    "degraded": "degraded", "failed": "degraded",
}  # fmt: skip
SECOND_US = 1_000_000
CONTROLLER_LEASE = "controller"
"""The lease that lets one controller write; its token fences off the one before."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """The state of one rollout. ``step`` is −1 until the first weight is set.

    ``cause`` says why it is paused. ``since_us`` is when the pause, the wait for an approval or the
    probation began, ``stopped_us`` when somebody stopped the clock of the latter two, and
    ``waited_us`` the time so far that the deadline does not count. ``resumed_us`` is when a person
    last said to go on, ``approved`` the highest step that somebody approved, and ``first_step``
    the one to begin with.

    ``max_weight_bp`` buckets from ``offset_bp`` on are its region, in which it grows; candidates
    that are rolled out together share ``lineage`` and ``stable`` and have regions of their own.
    """

    rollout_id: str
    model: str
    kind: Kind
    stable: int | None
    candidate: int
    plan: Plan
    lineage: str
    created_us: int
    created_by: str
    condition: Condition = "preparing"
    step: int = -1
    weight_bp: int = 0
    generation: int = 0
    confirmed_us: int | None = None
    ended_us: int | None = None
    reason: str = ""
    cause: Cause = ""
    since_us: int | None = None
    stopped_us: int | None = None
    waited_us: int = 0
    resumed_us: int | None = None
    approved: int = -1
    first_step: int = 0
    offset_bp: int = 0
    max_weight_bp: int = BUCKETS

    @property
    def buckets(self) -> tuple[int, int]:
        """The first bucket that may be the candidate's, and the first past them."""
        if self.weight_bp == BUCKETS:
            return 0, BUCKETS
        return self.offset_bp, self.offset_bp + self.max_weight_bp

    def step_at(self, index: int) -> Step:
        """A step of the plan with the weight that it has here: a share of the region, or all.

        A weight of 100 % is all traffic, of whomever it was.
        """
        step = self.plan.steps[index]
        if step.weight_bp == BUCKETS:
            return step
        return replace(step, weight_bp=step.weight_bp * self.max_weight_bp // BUCKETS)

    @property
    def phase(self) -> RolloutPhase:
        """The coarse phase, in the field's words."""
        return PHASES.get(self.condition, "progressing")

    @property
    def is_open(self) -> bool:
        """Whether it still moves or waits."""
        return self.condition in OPEN


@dataclass(frozen=True, slots=True)
class Recent:
    """What the guard looks at: the canary's latest answers, and both arms in the last interval.

    ``failed_in_a_row`` counts back from the newest answer, ``failing_units`` the units in that
    row; the pairs are (requests, failures).
    """

    failed_in_a_row: int = 0
    failing_units: int = 0
    canary: tuple[int, int] = (0, 0)
    stable: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Rival:
    """Another candidate of the same model, as far as it matters to this one.

    ``rate`` is its canary's observed share of events, or mean, in the metric that chooses the
    winner; None while nothing is known of it.
    """

    version: int
    standing: Standing
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the candidate at one moment.

    ``readiness``: starting, ready, or what is wrong (``failed``: it will not come up;
    ``unhealthy``: it was up). ``step_requests``: canary requests executed in the present step, or
    copies answered where it is only a shadow; ``requests`` those of the whole rollout.
    ``is_behind``: complete intervals are not counted yet, so the verdicts may lack the newest.
    """

    readiness: Literal["starting", "ready", "unhealthy", "failed"]
    readiness_reason: str = ""
    verdicts: tuple[Verdict, ...] = ()
    step_requests: int = 0
    requests: int = 0
    recent: Recent = Recent()
    rivals: tuple[Rival, ...] = ()
    is_behind: bool = False


@dataclass(frozen=True, slots=True)
class Stretch:
    """Whole intervals of a rollout: from ``start_us`` until before ``end_us``.

    Intervals begin at ``origin_us``; units are counted from there on. The candidate's buckets are
    those from ``first_bucket`` until before ``end_bucket``.
    """

    model: str
    candidate: int
    stable: int
    lineage: str
    origin_us: int
    interval_us: int
    start_us: int
    end_us: int
    first_bucket: int = 0
    end_bucket: int = BUCKETS
