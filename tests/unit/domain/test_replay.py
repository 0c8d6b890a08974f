"""Another plan's metrics on the intervals that were kept of a rollout."""

from dataclasses import replace
from math import log

import pytest

from steelyard.domain.analysis import Metric, MetricName, Observed, judge
from steelyard.domain.e_process import Interval
from steelyard.domain.errors import InvalidInput
from steelyard.domain.replay import Kept, Turn, check_replay, replayed
from steelyard.domain.rollout_plan import Plan, Step

ERRORS = Metric("errors", margin=2.0, floor=0.01, required=True)
PLAN = Plan((Step(500, 600.0, 100), Step(10_000)), (ERRORS,))
GOLDEN = (Interval(300, 4, 5700, 27), Interval(600, 9, 5400, 25), Interval(1500, 20, 4500, 22))
"""The design's rows: ln E_bad is .33, 3.53 and 8.13 after them."""


def _kept(rows: tuple[Interval, ...], metric: MetricName = "errors", step: int = 60) -> list[Kept]:
    return [Kept(metric, step * (n + 1), row) for n, row in enumerate(rows)]


def test_a_smaller_chance_of_a_false_rollback_speaks_later() -> None:
    """Ln 20 = 3.0 is passed at the second row, ln 10,000 = 9.2 never, ln 1,000 = 6.9 at the third.

    The same as the judgement of the rows until then, which is what the controller asks.
    """
    found = {alpha: replayed(replace(PLAN, alpha_rollback=alpha), _kept(GOLDEN))
             for alpha in (0.05, 0.001, 0.0001)}  # fmt: skip
    assert [(one.outcome, one.at_us) for one in found.values()] == [
        ("rolled back", 120), ("rolled back", 180), ("undecided", None),
    ]  # fmt: skip
    assert found[0.05].turns == (Turn(120, "errors", "failed", (900, 13), (11_100, 52)),)
    assert judge(ERRORS, Observed(GOLDEN[:2]), 1).judgement == "failed"
    assert judge(ERRORS, Observed(GOLDEN[:1]), 1).judgement == "inconclusive"


def test_another_tolerance_or_action_comes_out_otherwise() -> None:
    """What is borne is no rollback; what only pauses says so."""
    kept = _kept(GOLDEN)
    borne = replace(PLAN, metrics=(replace(ERRORS, tolerance=4.0),))
    asks = replace(PLAN, metrics=(replace(ERRORS, action="pause"),))
    assert replayed(borne, kept).outcome == "undecided"
    assert (replayed(asks, kept).outcome, replayed(asks, kept).at_us) == ("paused", 120)


def test_it_is_proven_when_every_required_metric_is() -> None:
    """The later one decides when; a metric that was not kept is never proven."""
    clean = (Interval(200, 0, 800, 0),) * 4
    labels = Metric("labels", floor=0.01, required=True)
    both = replace(PLAN, metrics=(ERRORS, labels))
    kept = [*_kept(clean), *_kept(clean, "labels", 100)]
    assert (replayed(PLAN, kept).outcome, replayed(PLAN, kept).at_us) == ("proven", 180)
    found = replayed(both, kept)
    assert (found.outcome, found.at_us, found.unknown) == ("proven", 300, ())
    alone = replayed(both, _kept(clean))
    assert (alone.outcome, alone.unknown) == ("undecided", ("labels",))


def test_what_became_known_at_once_is_judged_at_once() -> None:
    """As a controller that was away for an hour judges all that it finds."""
    late = [replace(one, recorded_us=500) for one in _kept(GOLDEN)]
    assert [turn.at_us for turn in replayed(PLAN, late).turns] == [500]


@pytest.mark.parametrize("name", ["errors", "disagreement", "cost"])
def test_every_kind_is_judged_as_the_controller_does(name: MetricName) -> None:
    """After every interval the same judgement, by ratio, by limit and by windows."""
    metric = Metric(name, floor=0.05 if name == "errors" else None,
                    limit=0.02 if name == "disagreement" else None)  # fmt: skip
    rows = tuple(Interval(100, n % 7, 900, 9) for n in range(40))
    plan = replace(PLAN, metrics=(metric, replace(ERRORS, name="labels")))
    turns = {turn.at_us: turn.judgement for turn in replayed(plan, _kept(rows, name)).turns}
    now = "inconclusive"
    for n in range(len(rows)):
        now = turns.get(60 * (n + 1), now)
        verdict = judge(metric, Observed(rows[: n + 1]), 2)
        assert verdict.ln_worse_at == log(2 / 0.05)
        assert now == verdict.judgement, n


def test_events_that_were_counted_otherwise_are_refused() -> None:
    """A slower limit cannot be seen in what was counted with a quicker one; all are named."""
    former = replace(PLAN, metrics=(ERRORS, Metric("latency", slo_ms=300), Metric("labels")))
    other = replace(former, label_maturity_s=60.0,
                    metrics=(ERRORS, Metric("latency", slo_ms=500), Metric("labels")))  # fmt: skip
    with pytest.raises(InvalidInput) as refused:
        check_replay(other, former)
    assert [fault.where for fault in refused.value.faults] == [
        "metrics.latency.slo_ms", "label_maturity",
    ]  # fmt: skip
    check_replay(replace(former, alpha_rollback=0.01), former)
