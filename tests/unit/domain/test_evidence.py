import math

import pytest

from steelyard.domain.analysis import Metric, Observed, Verdict, judge_all, requests_needed
from steelyard.domain.analysis import judge as judged
from steelyard.domain.e_process import (
    Counts,
    Interval,
    ln_e_above_limit,
    ln_e_below_limit,
    ln_e_not_worse,
    ln_e_worse,
)
from steelyard.domain.rollout_plan import default_metrics

GOLDEN = [Interval(300, 4, 5700, 27), Interval(600, 9, 5400, 25), Interval(1500, 20, 4500, 22)]
FLOOR = Metric("errors", margin=2.0, floor=0.01, required=True)
PLAIN = Metric("labels", margin=2.0)


def judge(metric: Metric, rows: list[Interval], rollback_metrics: int) -> Verdict:
    """Judge a metric whose requests name no unit."""
    return judged(metric, Observed(rows), rollback_metrics)


@pytest.mark.parametrize(
    ("rows", "worse", "not_worse"),
    [(1, 0.329154, -1.787191), (2, 3.527930, -2.852287), (3, 8.131358, -3.510685)],
)
def test_the_published_evidence_is_reproduced(rows: int, worse: float, not_worse: float) -> None:
    """The golden rows of the design, computed independently."""
    assert ln_e_worse(Counts.of(GOLDEN[:rows])) == pytest.approx(worse, abs=1e-6)
    assert ln_e_not_worse(Counts.of(GOLDEN[:rows]), 2.0) == pytest.approx(not_worse, abs=1e-6)


def test_the_published_evidence_against_a_limit_is_reproduced() -> None:
    """10 events of 1000 against a limit of 2 %."""
    assert ln_e_above_limit(1000, 10, 0.02) == pytest.approx(-4.049782, abs=1e-6)
    assert ln_e_below_limit(1000, 10, 0.02) == pytest.approx(1.352249, abs=1e-6)


def test_an_interval_with_one_arm_only_says_nothing() -> None:
    """Without a concurrent stable version there is no comparison, however bad it looks."""
    assert ln_e_worse(Counts.of([Interval(1000, 1000, 0, 0)])) == 0.0
    assert ln_e_not_worse(Counts.of([Interval(0, 0, 1000, 1000)]), 2.0) == pytest.approx(0.0)


def test_evidence_adds_up_over_intervals_of_the_same_weights() -> None:
    """Cutting an interval in two equal halves of traffic changes nothing."""
    whole = Counts.of([Interval(200, 6, 1800, 20)])
    halves = Counts.of([Interval(100, 5, 900, 3), Interval(100, 1, 900, 17)])
    assert ln_e_worse(halves) == pytest.approx(ln_e_worse(whole))


@pytest.mark.parametrize("metric", [FLOOR, PLAIN])
def test_no_data_is_inconclusive(metric: Metric) -> None:
    """Never a pass and never a failure; the same for a canary that nobody asked."""
    assert judge(metric, [], 1).judgement == "inconclusive"
    assert judge(metric, [Interval(0, 0, 100_000, 0)], 1).judgement == "inconclusive"


@pytest.mark.parametrize("metric", [FLOOR, PLAIN])
def test_a_clearly_worse_canary_fails(metric: Metric) -> None:
    """Ten times the errors of stable, both measured at the same time."""
    verdict = judge(metric, [Interval(1000, 100, 1000, 10)], 1)
    assert verdict.judgement == "failed"
    assert verdict.ln_e_worse > verdict.ln_worse_at == pytest.approx(math.log(20))
    assert verdict.summary == f"{metric.name}: canary 100/1000, stable 10/1000: failed"


def test_an_equal_canary_proves_itself_by_comparison() -> None:
    """With enough events, twice stable's rate is ruled out; the margin decides."""
    rows = [Interval(5000, 150, 5000, 150)]
    assert judge(PLAIN, rows, 1).judgement == "successful"
    assert judge(Metric("labels", margin=1.05), rows, 1).judgement == "inconclusive"


def test_a_tolerated_ratio_is_not_rolled_back() -> None:
    """A smaller variant may be declared to be wrong more often; without that it fails."""
    rows = [Interval(5000, 240, 5000, 150)]
    assert judge(Metric("labels", tolerance=1.0), rows, 1).judgement == "failed"
    assert judge(Metric("labels", tolerance=2.0), rows, 1).judgement == "inconclusive"


def test_more_rollback_metrics_need_more_evidence_each() -> None:
    """Any of them may fire falsely, so the chance is split; a required one's is not."""
    rows = [Interval(1000, 28, 1000, 10)]
    one, four = judge(PLAIN, rows, 1), judge(PLAIN, rows, 4)
    assert one.judgement == "failed"
    assert four.judgement == "inconclusive"
    assert four.ln_worse_at == pytest.approx(math.log(80))
    assert four.ln_good_at == one.ln_good_at


def test_the_floor_certifies_a_canary_without_events() -> None:
    """1 % of errors is acceptable: about 4.24/f clean requests prove it, stable or not."""

    def certified(requests: int) -> bool:
        return judge(FLOOR, [Interval(requests, 0, 0, 0)], 1).judgement == "successful"

    first = next(n for n in range(100, 1_000) if certified(n))
    assert 400 <= first <= 520
    assert certified(first + 1)
    assert judge(PLAIN, [Interval(first, 0, first, 0)], 1).judgement == "inconclusive"


def test_the_missing_requests_are_an_honest_estimate() -> None:
    """What a hold prints leads to the proof, without floor or need it is unknown."""
    asked = 100
    verdict = judge(FLOOR, [Interval(asked, 0, 0, 0)], 1)
    needed = requests_needed(verdict, FLOOR.floor)
    assert needed is not None and 0 < needed < 500
    assert requests_needed(verdict, None) is None
    proven = judge(FLOOR, [Interval(1_000, 0, 0, 0)], 1)
    assert requests_needed(proven, FLOOR.floor) is None


def test_every_metric_of_a_plan_is_judged() -> None:
    """Also one without a single row; only metrics that roll back share the chance."""
    metrics = default_metrics()
    verdicts = judge_all(metrics, {"errors": Observed(GOLDEN)})
    assert [(v.metric, v.required) for v in verdicts] == [("errors", True), ("labels", False)]
    assert verdicts[1].judgement == "inconclusive"
    assert verdicts[0].ln_worse_at == pytest.approx(math.log(40))
    watching = Metric("labels", action="observe")
    assert judge_all([FLOOR, watching], {})[0].ln_worse_at == pytest.approx(math.log(20))
