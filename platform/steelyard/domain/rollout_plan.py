"""How a version takes over: the steps, what is compared meanwhile, and when it is enough."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from steelyard.domain.analysis import METRICS, Metric
from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.traffic import BUCKETS, MOST_CANDIDATES

DAY_S = 86_400.0
LONGEST_S = 30 * DAY_S
LOOKED_BACK = 100
"""How many of the canary's newest answers the guard may look back on."""
Undecided = Literal["pause", "abort"]
ASK = "ask"
"""Who wins among several proven candidates: a person says."""


@dataclass(frozen=True, slots=True)
class Step:
    """One weight and how long it bakes at least: seconds and executed canary requests.

    With ``approval`` somebody must approve it before its weight is set. ``shadow_bp`` of the
    buckets, as far as stable answers them, are repeated by the candidate unseen. A first step may
    be a shadow only, of weight 0: then the candidate's answered copies are its requests.
    """

    weight_bp: int
    bake_s: float = 0.0
    min_requests: int = 0
    approval: bool = False
    shadow_bp: int = 0

    @property
    def said(self) -> str:
        """Its weight for people, and its shadow.

        >>> Step(0, shadow_bp=2_000).said, Step(500, shadow_bp=2_000).said, Step(500).said
        ('0 %, shadow 20 %', '5 %, shadow 20 %', '5 %')
        """
        shadow = f", shadow {self.shadow_bp / 100:g} %" if self.shadow_bp else ""
        return f"{self.weight_bp / 100:g} %{shadow}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that is rolled out, and how many of the 10,000 buckets it grows into at most.

    Steps are shares of that, but for the last one, which is all traffic.
    """

    version: int
    max_weight_bp: int = BUCKETS


@dataclass(frozen=True, slots=True)
class Guard:
    """When a canary is so bad that no statistics are needed.

    Either its last ``consecutive`` requests all failed and came from ``units`` units or more, or
    the ``share`` of failures among at least ``requests`` within one interval is reached.
    """

    consecutive: int = 10
    units: int = 3
    share: float = 0.2
    requests: int = 50


@dataclass(frozen=True, slots=True)
class Plan:
    """How a version takes over. Times are in seconds.

    ``interval_s`` is the length of one row of evidence; ``label_maturity_s`` how long a label may
    take; ``keep_warm_s`` how long the old version stays ready after the end; ``ready_within_s``
    how long a version may take to start. ``alpha_*`` are the chances of a wrong verdict.
    ``deadline_s`` bounds the whole but for the time in which it is paused or waits for an
    approval, ``approval_timeout_s`` such a wait. After ``inconclusive_limit`` intervals past a
    bake without a verdict ``on_inconclusive`` happens. For ``probation_s`` at 100 % the old
    version stays ready and late labels still count; it answers ``reverse_shadow_bp`` of the
    buckets once more, unseen.

    ``candidates`` are the versions, where the plan says which. Of several proven ones ``winner``
    takes all traffic: the one with the lowest rate in the metric of that name, or whom a person
    names (``ask``).
    """

    steps: tuple[Step, ...]
    metrics: tuple[Metric, ...]
    interval_s: float = 60.0
    label_maturity_s: float = DAY_S
    keep_warm_s: float = 3_600.0
    ready_within_s: float = 300.0
    alpha_rollback: float = 0.05
    alpha_promote: float = 0.05
    guard: Guard = Guard()
    deadline_s: float = 7 * DAY_S
    approval_timeout_s: float = DAY_S
    inconclusive_limit: int = 60
    on_inconclusive: Undecided = "pause"
    probation_s: float = 0.0
    reverse_shadow_bp: int = 0
    candidates: tuple[Candidate, ...] = ()
    winner: str = ASK


def default_metrics(label_tolerance: float = 1.0) -> tuple[Metric, ...]:
    """Request errors are required; labels roll back when they come and are worse.

    ``label_tolerance`` is the ratio of wrong answers to stable's that a smaller variant may have.
    """
    return (
        Metric("errors", margin=2.0, floor=0.01, required=True),
        Metric("labels", tolerance=label_tolerance, margin=1.25 * label_tolerance),
    )


def plan_from(document: Mapping[str, Any]) -> Plan:
    """The plan that ``dataclasses.asdict`` made a document of; what is not in it has its default.

    Raises:
        TypeError: a field is unknown.
    """
    values = dict(document)
    values["steps"] = tuple(Step(**step) for step in document["steps"])
    values["metrics"] = tuple(Metric(**metric) for metric in document["metrics"])
    if "guard" in document:
        values["guard"] = Guard(**document["guard"])
    if "candidates" in document:
        values["candidates"] = tuple(Candidate(**one) for one in document["candidates"])
    return Plan(**values)


def shortest_s(plan: Plan) -> float:
    """Seconds that all steps bake together: no rollout of the plan ends sooner."""
    return sum(step.bake_s for step in plan.steps)


def check_plan(plan: Plan) -> None:
    """Refuse a plan that cannot be carried out, naming every fault.

    Raises:
        InvalidInput: weights do not grow or do not end at 100 %, a shadow has nobody to repeat,
            a time is negative, a metric is unknown, twice there or lacks what it needs, no metric
            is required, the deadline is over before the steps are, or candidates are too many,
            twice there, of more than 100 % together or of too little for the steps.
    """
    faults = [*_step_faults(plan.steps), *_shadow_faults(plan), *_metric_faults(plan),
              *_candidate_faults(plan)]  # fmt: skip
    times = (plan.keep_warm_s, plan.label_maturity_s, plan.probation_s, plan.ready_within_s)
    if plan.interval_s <= 0 or min(times) < 0 or plan.approval_timeout_s <= 0:
        faults.append(Fault("times", "the interval is above 0, other times are not negative"))
    if plan.interval_s > LONGEST_S:  # no rollout lasts longer, and SQL must hold when one began
        faults.append(Fault("interval_s", f"is at most {LONGEST_S:.10g}, "
                            f"found {plan.interval_s:.10g}"))  # fmt: skip
    if not shortest_s(plan) < plan.deadline_s <= LONGEST_S:
        faults.append(Fault("deadline_s", f"is above the steps' {shortest_s(plan):.10g} s and at "
                            f"most {LONGEST_S:.10g}, found {plan.deadline_s:.10g}"))  # fmt: skip
    if not 0 < plan.alpha_rollback < 1 or not 0 < plan.alpha_promote < 1:
        faults.append(Fault("alpha", "chances are above 0 and below 1"))
    if plan.inconclusive_limit < 1 or min(plan.guard.consecutive, plan.guard.requests) < 1:
        faults.append(Fault("limits", "counts of intervals and requests are at least 1"))
    if plan.guard.share <= 0:
        faults.append(Fault("guard.share", "is above 0"))
    if plan.guard.consecutive > LOOKED_BACK:
        faults.append(Fault("guard.consecutive", f"is at most {LOOKED_BACK}"))
    if faults:
        raise InvalidInput("The rollout plan cannot be carried out.", tuple(faults))


def _step_faults(steps: Sequence[Step]) -> list[Fault]:
    faults = []
    weights = [step.weight_bp for step in steps]
    if not weights or weights[-1] != BUCKETS:
        faults.append(Fault("steps", "the last step is 100 %"))
    in_traffic = weights[1:] if steps and steps[0].shadow_bp and not weights[0] else weights
    if in_traffic != sorted(set(in_traffic)) or (in_traffic and in_traffic[0] <= 0):
        found = ", ".join(f"{weight / 100:g}" for weight in weights)
        faults.append(Fault("steps", f"weights grow from above 0, found {found}; only a first "
                            "step with a shadow may have 0"))  # fmt: skip
    if any(step.bake_s < 0 or step.min_requests < 0 for step in steps):
        faults.append(Fault("steps", "bake time and minimum requests are not negative"))
    return faults


def _candidate_faults(plan: Plan) -> list[Fault]:
    faults = []
    versions = [one.version for one in plan.candidates]
    weights = [one.max_weight_bp for one in plan.candidates]
    if len(versions) > MOST_CANDIDATES or len(set(versions)) < len(versions):
        faults.append(Fault("candidates", f"are at most {MOST_CANDIDATES} different versions"))
    if any(weight <= 0 for weight in weights) or sum(weights) > BUCKETS:
        found = ", ".join(f"{weight / 100:g}" for weight in weights)
        faults.append(Fault("candidates", f"have 100 % together at most, each above 0: {found}"))
    if len(versions) > 1 and len(plan.steps) < 2:
        faults.append(Fault("steps", "several candidates need a step before all traffic"))
    for index, weight in enumerate(weights):
        buckets = [step.weight_bp * weight // BUCKETS for step in plan.steps if step.weight_bp]
        if buckets != sorted(set(buckets)) or 0 in buckets:
            faults.append(Fault(f"candidates[{index}].max_weight", f"{weight / 100:g} % is too "
                                "little: its steps differ by less than 0.01 %"))  # fmt: skip
    if plan.winner != ASK and plan.winner not in [metric.name for metric in plan.metrics]:
        faults.append(Fault("winner", f"is {ASK} or one of the plan's metrics: {plan.winner}"))
    return faults


def _shadow_faults(plan: Plan) -> list[Fault]:
    """A share that is none, nobody whose requests are repeated, or nobody left to repeat them."""
    faults = []
    for index, step in enumerate(plan.steps):
        if not 0 <= step.shadow_bp <= BUCKETS:
            faults.append(Fault(f"steps[{index}].shadow", "is from 0 to 100 percent, found "
                                f"{step.shadow_bp / 100:g}"))  # fmt: skip
        elif step.shadow_bp and step.weight_bp == BUCKETS:
            faults.append(Fault(f"steps[{index}].shadow", "repeats what stable answers, and at "
                                "100 % that is nothing; see reverse_shadow"))  # fmt: skip
    share, field = plan.reverse_shadow_bp, "reverse_shadow"
    if not 0 <= share <= BUCKETS:
        faults.append(Fault(field, f"is from 0 to 100 percent, found {share / 100:g}"))
    elif share and not plan.probation_s:
        faults.append(Fault(field, "is a part of the probation, and there is none"))
    elif share and _paired(plan) and plan.probation_s <= plan.label_maturity_s:
        faults.append(Fault(field, f"counts for paired when labels are {plan.label_maturity_s:.10g}"
                            f" s old, and the probation is over in {plan.probation_s:.10g}"
                            ))  # fmt: skip
    return faults


def _paired(plan: Plan) -> bool:
    return any(metric.kind == "paired" for metric in plan.metrics)


def _metric_faults(plan: Plan) -> list[Fault]:
    faults = []
    names = [metric.name for metric in plan.metrics]
    if len(plan.steps) > 1 and not any(metric.required for metric in plan.metrics):
        faults.append(Fault("metrics", "at least one metric is required"))
    for name in sorted({name for name in names if names.count(name) > 1}):
        faults.append(Fault(f"metrics.{name}", "is there twice"))
    for metric in plan.metrics:
        field = f"metrics.{metric.name}"
        if metric.name not in METRICS:
            faults.append(Fault(field, f"is unknown; these are known: {', '.join(METRICS)}"))
        if metric.name == "latency" and not metric.slo_ms:
            faults.append(Fault(field, "needs slo_ms: a slower answer counts against the canary"))
        if metric.name == "disagreement" and not (metric.limit and 0 < metric.limit < 0.5):
            faults.append(Fault(field, "needs a limit above 0 and below 0.5"))
        if metric.kind == "paired" and metric.required:
            faults.append(Fault(field, "tells who is worse, and proves nobody good: require labels"
                                ))  # fmt: skip
        if metric.tolerance < 1 or metric.margin <= 0:
            faults.append(Fault(field, "tolerance is at least 1, margin above 0"))
        if metric.floor is not None and not 0 < metric.floor < 0.5:
            faults.append(Fault(field, "floor is above 0 and below 0.5"))
    return faults
