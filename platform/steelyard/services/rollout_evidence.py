"""What is known of a rollout's candidate now: intervals are closed and kept, then judged."""

from typing import TYPE_CHECKING

from steelyard.domain.analysis import Metric, Observed, Verdict, judge_all
from steelyard.domain.rollout import SECOND_US, Evidence, Rollout, Stretch
from steelyard.domain.unit_spread import Spread
from steelyard.ports.applications import ApplicationState

if TYPE_CHECKING:
    from steelyard.adapters.sql.arms import ArmStore
    from steelyard.adapters.sql.rollouts import RolloutStore

Spreads = tuple[Spread, Spread]
"""The canary's and stable's."""


class Evidences:
    """Closes intervals of predictions and labels, and judges what they say."""

    def __init__(self, store: "RolloutStore", arms: "ArmStore") -> None:
        self._store = store
        self._arms = arms
        self._spreads: dict[tuple[str, str], tuple[int, Spreads]] = {}

    def of(
        self, rollout: Rollout, state: ApplicationState, now_us: int, settle_us: int
    ) -> Evidence:
        """Everything known of a canary with weight.

        ``settle_us`` is how long facts may take to arrive before an interval counts as complete.
        """
        self._close(rollout, now_us, settle_us)
        interval_us = _interval_us(rollout)
        latest = _stretch(rollout, now_us - interval_us, now_us)
        arms, of = self._arms, (rollout.model, rollout.lineage, rollout.created_us)
        return Evidence(
            state.phase, state.reason, self.verdicts(rollout),
            step_requests=arms.canary_requests(*of, rollout.generation),
            requests=arms.canary_requests(*of), recent=arms.recent(latest),
        )  # fmt: skip

    def verdicts(self, rollout: Rollout) -> tuple[Verdict, ...]:
        """Every metric of the plan, judged on what was kept.

        How units spread is asked only where everything else speaks for the canary: it takes a
        look at every answer of the rollout.
        """
        plan = rollout.plan
        rows = self._store.observations(rollout.rollout_id)
        observed = {name: Observed(some) for name, some in rows.items()}
        chances = plan.alpha_rollback, plan.alpha_promote
        verdicts = judge_all(plan.metrics, observed, *chances)
        proven = [
            metric
            for verdict, metric in zip(verdicts, plan.metrics, strict=True)
            if metric.required and metric.kind == "ratio" and verdict.judgement == "successful"
        ]
        if not proven:
            return verdicts
        for metric in proven:
            spread = self._spread(rollout, metric)
            observed[metric.name] = Observed(observed[metric.name].rows, spread)
        return judge_all(plan.metrics, observed, *chances)

    def _spread(self, rollout: Rollout, metric: Metric) -> Spreads:
        """That of all kept intervals; looked up again only when there is one more."""
        newest = self._store.observed_until(rollout.rollout_id, metric.name)
        end_us = (newest or rollout.created_us) + _interval_us(rollout)
        key = (rollout.rollout_id, metric.name)
        known = self._spreads.get(key)
        if known is None or known[0] != end_us:
            whole = _stretch(rollout, rollout.created_us, end_us)
            known = self._spreads[key] = (end_us, self._arms.spread(metric, whole))
        return known[1]

    def _close(self, rollout: Rollout, now_us: int, settle_us: int) -> None:
        """Keep every interval that is complete by now."""
        length = _interval_us(rollout)
        for metric in rollout.plan.metrics:
            late_s = rollout.plan.label_maturity_s if metric.name == "labels" else 0
            wait = settle_us + int(late_s * SECOND_US)
            newest = self._store.observed_until(rollout.rollout_id, metric.name)
            start = rollout.created_us if newest is None else newest + length
            end = rollout.created_us + (now_us - wait - rollout.created_us) // length * length
            if end > start:
                found = self._arms.intervals(metric, _stretch(rollout, start, end))
                self._store.observe(rollout.rollout_id, metric.name, found, now_us)


def _interval_us(rollout: Rollout) -> int:
    return int(rollout.plan.interval_s * SECOND_US)


def _stretch(rollout: Rollout, start_us: int, end_us: int) -> Stretch:
    return Stretch(
        rollout.model, rollout.candidate, rollout.stable or rollout.candidate, rollout.lineage,
        rollout.created_us, _interval_us(rollout), start_us, end_us,
    )  # fmt: skip
