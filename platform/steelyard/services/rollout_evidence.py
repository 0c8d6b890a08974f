"""What is known of a rollout's candidate now: what was counted and kept, judged."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from steelyard.domain.analysis import Metric, MetricName, Observed, Verdict, judge_all
from steelyard.domain.e_process import Interval
from steelyard.domain.rollout import Evidence, Rollout
from steelyard.domain.unit_spread import Spread
from steelyard.ports.applications import ApplicationState
from steelyard.services.latest_answers import LatestAnswers
from steelyard.services.rollout_intervals import Intervals, interval_us, stretch

if TYPE_CHECKING:
    from steelyard.adapters.sql.arms import ArmStore
    from steelyard.adapters.sql.rollouts import RolloutStore

Spreads = tuple[Spread, Spread]
"""The canary's and stable's."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """What earlier attempts at the same pair of versions left; nothing of it changes any more."""

    attempts: int
    origin_us: int
    rows: dict[MetricName, list[Interval]]


class Evidences:
    """Closes intervals of predictions and labels, and judges what they say."""

    def __init__(self, store: "RolloutStore", arms: "ArmStore") -> None:
        self._store = store
        self._arms = arms
        self._spreads: dict[tuple[str, str], tuple[int, Spreads]] = {}
        self._earlier: dict[str, Earlier] = {}
        self._latest = LatestAnswers(arms)
        self._intervals = Intervals(store.observations, arms)
        self._verdicts: dict[str, tuple[Verdict, ...]] = {}
        self._token: int | None = None

    def look(self, rollouts: Sequence[Rollout], now_us: int, settle_us: int, token: int) -> None:
        """Look at the answers of these rollouts' arms, before asking what is known of each.

        ``settle_us`` is how long facts may take to arrive before an interval counts as complete,
        ``token`` the controller's fencing number: with another one nothing is remembered.
        """
        if token != self._token:
            self._intervals.forget()
            self._verdicts.clear()
            self._latest = LatestAnswers(self._arms)
            self._token = token
        self._forget_ended({one.rollout_id for one in rollouts})
        self._latest.look(rollouts, now_us, settle_us)
        self._intervals.look(rollouts, now_us, settle_us)

    def of(self, rollout: Rollout, state: ApplicationState, now_us: int, token: int) -> Evidence:
        """Everything known of a canary with weight that was looked at.

        Raises:
            Conflict: another controller took over.
        """
        if self._intervals.close(rollout, now_us, token):
            self._verdicts.pop(rollout.rollout_id, None)
        verdicts = self._verdicts.get(rollout.rollout_id)
        if verdicts is None:
            verdicts = self._verdicts[rollout.rollout_id] = self.verdicts(rollout)
        in_step, in_all = self._latest.requests(rollout)
        return Evidence(
            state.phase, state.reason, verdicts, step_requests=in_step, requests=in_all,
            recent=self._latest.recent(rollout), is_behind=self._intervals.is_behind(rollout),
        )  # fmt: skip

    def verdicts(self, rollout: Rollout) -> tuple[Verdict, ...]:
        """Every metric of the plan, judged on what was kept.

        How units spread is asked only where everything else speaks for the canary: it takes a
        look at every answer of the rollout.
        """
        plan = rollout.plan
        rows = self._store.observations.by_metric(rollout.rollout_id)
        earlier = self.earlier(rollout).rows
        observed = {
            name: Observed(rows.get(name, ()), earlier=earlier.get(name, ()))
            for name in {*rows, *earlier}
        }
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
            known = observed[metric.name]
            observed[metric.name] = replace(known, spread=self._spread(rollout, metric))
        return judge_all(plan.metrics, observed, *chances)

    def earlier(self, rollout: Rollout) -> Earlier:
        """What earlier attempts left."""
        known = self._earlier.get(rollout.rollout_id)
        if known is None:
            attempts = self._store.earlier_attempts(rollout)
            rows: dict[MetricName, list[Interval]] = {}
            for attempt in attempts:
                for name, some in self._store.observations.by_metric(attempt.rollout_id).items():
                    rows.setdefault(name, []).extend(some)
            origin_us = attempts[0].created_us if attempts else rollout.created_us
            known = self._earlier[rollout.rollout_id] = Earlier(len(attempts), origin_us, rows)
        return known

    def _forget_ended(self, looked: Collection[str]) -> None:
        self._verdicts = {name: v for name, v in self._verdicts.items() if name in looked}
        self._earlier = {name: e for name, e in self._earlier.items() if name in looked}
        self._spreads = {key: s for key, s in self._spreads.items() if key[0] in looked}

    def _spread(self, rollout: Rollout, metric: Metric) -> Spreads:
        """That of all attempts' kept intervals; looked up again only when there is one more."""
        newest = self._store.observations.newest_start(rollout.rollout_id, metric.name)
        end_us = (newest or rollout.created_us) + interval_us(rollout)
        key = (rollout.rollout_id, metric.name)
        known = self._spreads.get(key)
        if known is None or known[0] != end_us:
            origin_us = self.earlier(rollout).origin_us
            whole = replace(stretch(rollout, origin_us, end_us), origin_us=origin_us)
            known = self._spreads[key] = (end_us, self._arms.spread(metric, whole))
        return known[1]
