from dataclasses import replace
from fractions import Fraction

import pytest

from steelyard.domain.errors import InvalidInput
from steelyard.domain.gates import Finding, GatePolicy
from steelyard.domain.prospect import Basis, Kind, Precedent, Verdict
from steelyard.domain.recommend import (
    Ask,
    Candidate,
    Recommendation,
    asked,
    check_ask,
    recommend,
)
from steelyard.domain.recommend_lines import arithmetic, prospects, standing
from steelyard.domain.request_cost import Anchor, RequestCost, anchor

ASK = Ask(1_000, Fraction(100), Fraction("0.5"), 90)
POLICY = GatePolicy(max_quality_loss=0.005, latency_class_ms=100.0)
PASS = Finding("quality", "pass", 0.001, 0.005, "of 360 labels")
SLOW = Finding("latency_class", "fail", 140.0, 100.0, "140 ms at p95")
BASIS = Basis(Anchor(Fraction(10_000), Fraction(10_000), Fraction(1), "m/1"), Fraction(60), POLICY)


def _version(number: int, nano: int | None, *findings: Finding, why: str = "") -> Candidate:
    cost = RequestCost() if nano is None else RequestCost(Fraction(nano), basis="evidence")
    time = Fraction(nano or number, 10_000)
    return Candidate(number, f"kind{number}", findings or (PASS,), cost, time, why)


def _kind(name: str, *measured: tuple[str, int | None]) -> Kind:
    """Measurements as (share of its parent's time, nano-USD of making it)."""
    return Kind(name, tuple(
        Precedent(f"other/{n}", Fraction(time), Fraction(time), 0.004, making)
        for n, (time, making) in enumerate(measured, 1)
    ))  # fmt: skip


def _found(candidates: list[Candidate], *kinds: Kind, ask: Ask = ASK) -> Recommendation:
    return recommend(candidates, kinds, ask, BASIS)


def test_the_cheapest_of_those_that_pass_is_named() -> None:
    """Version 3 would be cheaper, but is too slow; the total is requests times cost, exactly."""
    found = _found([_version(1, 10_000), _version(2, 4_000), _version(3, 1_000, PASS, SLOW)])
    assert (found.serve, found.make) == (2, None)
    assert found.best is not None
    assert found.best.value == 1_000 * 90 * 4_000
    assert standing(found.totals[2]) == "latency_class fail: 140 ms at p95"


def test_the_arithmetic_is_said_line_by_line_and_what_is_spent_is_spent() -> None:
    """90,000 requests at 0.004 dollars per 1,000 are 0.36 dollars."""
    best = _found([_version(2, 4_000)]).best
    assert best is not None
    assert arithmetic(best, ASK) == [
        "1,000 requests a day × 90 days = 90,000 requests",
        "making it: $0 still to pay; it is registered, what it cost is spent whatever is chosen",
        "$0.004 per 1,000 requests (estimated: 0.4 of the baseline's device time)",
        "90,000 × $0.004 / 1,000 = $0.36; a point estimate",
    ]


def test_an_interval_of_the_ledger_goes_through_to_the_total() -> None:
    """Its ends are multiplied as the value is."""
    cost = RequestCost(Fraction(4_000), Fraction(3_000), Fraction(5_000), "ledger", 28)
    best = _found([replace(_version(2, 4_000), cost=cost)]).best
    assert best is not None
    assert (best.low, best.high) == (Fraction(270_000_000), Fraction(450_000_000))
    assert "28 complete days" in arithmetic(best, ASK)[2]
    assert arithmetic(best, ASK)[3].endswith("= $0.36 [$0.27, $0.45], 95 %")


@pytest.mark.parametrize("why", ["no measured evidence", "the record was changed"])
def test_a_version_without_evidence_is_never_named(why: str) -> None:
    """However cheap it would be."""
    found = _found([_version(1, 10_000), _version(2, 1, why=why)])
    assert found.serve == 1
    assert standing(found.totals[1]) == why


def test_a_gate_that_is_unknown_does_not_pass() -> None:
    """Stale evidence does not open the latency class."""
    stale = Finding("latency_class", "unknown", 3.0, 100.0, "measured on other hardware")
    assert _found([_version(1, 1, PASS, stale)]).serve is None


def test_without_a_price_the_device_time_decides() -> None:
    """An unknown cost is not 0, and one that is known comes first."""
    found = _found([_version(5, None), _version(3, None)])
    assert found.serve == 3
    best = found.best
    assert best is not None and best.value is None
    assert arithmetic(best, ASK)[-1] == "cost: unknown; device time decides instead"
    assert _found([_version(1, None), _version(2, 9_000)]).serve == 2


def test_a_kind_that_earns_its_making_within_the_horizon_is_to_be_made() -> None:
    """Saves 5,000 nano-USD a request, costs 0.1 dollars: paid back after 20,000 requests."""
    kind = _kind("distilled", ("0.4", 10**8), ("0.5", 10**8), ("0.6", 10**8))
    found = _found([_version(1, 10_000)], kind)
    assert (found.serve, found.make) == (1, "distilled")
    (one,) = found.prospects
    assert (one.verdict, one.passes) == ("pays", True)
    assert (one.pay_back.requests, one.pay_back.days) == (Fraction(20_000), Fraction(20))
    assert one.total == 10**8 + 5_000 * 90_000
    (line,) = prospects(found)
    assert "pay-back after 20,000 requests, 20 days [16,667, 25,000]" in line


@pytest.mark.parametrize(
    ("measured", "verdict", "make"),
    [
        ([("0.5", 10**12)] * 3, "pays", None),  # only long after the horizon
        ([("0.5", 10**8)], "not_proven", "k"),  # measured once
        ([("0.5", 10**8), ("0.5", 10**8), ("1.2", 10**8)], "not_proven", "k"),  # may not save
        ([("1.2", 10**8)] * 3, "never", None),
        ([("1.2", 10**8)], "never", None),
        ([("0.5", None)] * 3, "not_proven", None),  # nobody knows what making it costs
        ([], "unknown", None),
    ],
)
def test_a_kind_pays_or_never_or_it_is_not_proven(
    measured: list[tuple[str, int | None]], verdict: Verdict, make: str | None
) -> None:
    """What is not proven may still be the better bet, and says so."""
    found = _found([_version(1, 10_000)], _kind("k", *measured))
    assert (found.prospects[0].verdict, found.make) == (verdict, make)


def test_a_kind_of_unknown_cost_says_what_its_making_may_cost() -> None:
    """Half of 0.9 dollars is saved over the horizon."""
    found = _found([_version(1, 10_000)], _kind("k", ("0.5", None)), Kind("new"))
    first, *rest = prospects(found)
    assert "making it may cost $0.45 to pay back in the horizon" in first
    assert rest == ["new: cost and saving unknown, never measured here; pay-back not proven",
                    "no kind can save more than $0.90 in the horizon"]  # fmt: skip


def test_where_no_version_passes_the_kind_that_would_is_to_be_made() -> None:
    """Rather a kind of which it is known than one that nobody measured; never one that fails."""
    failing = replace(_kind("lossy", ("0.1", 1)), precedents=(
        Precedent("other/1", Fraction(1, 10), Fraction(1, 10), 0.2, 1),
    ))  # fmt: skip
    known, new = _kind("known", ("0.5", 10**8)), Kind("new")
    slow = [_version(1, 10_000, SLOW)]
    assert _found(slow, failing, new, known).make == "known"
    assert _found(slow, failing, new).make == "new"
    assert _found(slow, failing).make is None
    assert _found(slow, known).serve is None


def test_a_prediction_holds_a_kind_to_its_slowest_and_worst_measurement() -> None:
    """60 ms at twice the time is 120 ms: it would not pass 100 ms."""
    found = _found([_version(1, 10_000)], _kind("k", ("0.5", 1), ("2", 1)))
    assert (found.prospects[0].p95_ms, found.prospects[0].passes) == (Fraction(120), False)


def test_of_the_models_policy_and_what_is_asked_the_stricter_holds() -> None:
    """Asking for less does not open a gate that an operator closed."""
    strict = GatePolicy(max_quality_loss=0.001, latency_class_ms=5.0, max_size_ratio=0.5)
    assert asked(strict, ASK) == strict
    assert asked(GatePolicy(), ASK) == POLICY


def test_a_request_that_cannot_be_meant_is_refused_with_every_fault() -> None:
    """All four at once."""
    with pytest.raises(InvalidInput) as refused:
        check_ask(Ask(0, Fraction(0), Fraction(51), 0))
    assert [fault.where for fault in refused.value.faults] == [
        "--requests-per-day", "--latency-class", "--max-loss", "--horizon-days",
    ]  # fmt: skip


def test_an_estimate_keeps_what_a_replica_needs_besides_computing() -> None:
    """A request of 10 of which 6 are computing costs 7 on a model of half the time."""
    found = anchor(RequestCost(Fraction(10), basis="ledger"), Fraction(3), Fraction(2),
                   Fraction(1), "m/1")  # fmt: skip
    assert found is not None
    assert found.at(Fraction(1, 2)) == 7


def test_a_batch_that_costs_less_than_its_rows_alone_is_all_computing() -> None:
    """Nothing of it is a replica's own; without a price nothing can be estimated."""
    found = anchor(RequestCost(Fraction(10)), Fraction(3), Fraction(32), Fraction(1), "m/1")
    assert found is not None
    assert found.at(Fraction(1, 2)) == 5
    assert anchor(RequestCost(), None, Fraction(1), Fraction(1), "m/1") is None
