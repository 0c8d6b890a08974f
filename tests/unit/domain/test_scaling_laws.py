import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.errors import InvalidInput
from steelyard.domain.scaling_laws import (
    EPOCH,
    HOFFMANN,
    LAWS,
    SARDANA,
    Demand,
    FlopPrice,
    Plan,
    ScalingLaw,
    compute_optimal,
    compute_optimal_tokens,
    inference_optimal,
    money_equivalent_tokens,
    plan,
    plan_cost,
    tokens_for_loss,
)


def choose(law: ScalingLaw, params: float, demand: float) -> tuple[Plan, Plan]:
    """The compute-optimal model of a size, and the cheapest over a life that is as good."""
    original = plan(law, params, compute_optimal_tokens(law, params), demand)
    return original, inference_optimal(law, original.loss, demand)


def saved_percent(original: Plan, better: Plan) -> float:
    """FLOPs that the better plan saves over a life, in percent."""
    return 100 * (1 - better.flop / original.flop)


def test_a_13b_model_with_two_trillion_tokens_of_inference() -> None:
    """A 7B model trained longer saves 17.447 %, with the constants of the study (A8)."""
    original, best = choose(SARDANA, 13e9, 2e12)
    assert original.tokens == pytest.approx(5.7649e11, rel=1e-4)
    assert best.params == pytest.approx(6.9686e9, rel=1e-4)
    assert best.tokens == pytest.approx(1.2478e12, rel=1e-4)
    assert saved_percent(original, best) == pytest.approx(17.447, abs=5e-4)
    assert best.loss == pytest.approx(original.loss, rel=1e-12)


def test_exactly_seven_billion_saves_as_much_as_was_published() -> None:
    """At 7e9 parameters 1.692e22 FLOP are saved (A8)."""
    original, _ = choose(SARDANA, 13e9, 2e12)
    tokens = tokens_for_loss(SARDANA, 7e9, original.loss)
    saved = original.flop - plan(SARDANA, 7e9, tokens, 2e12).flop
    assert saved == pytest.approx(1.692e22, rel=5e-4)


def test_money_with_all_ratios_one_is_the_same_problem() -> None:
    """Equal prices and utilisations: the cost form chooses what the FLOP form does (A8)."""
    training = FlopPrice(1, 1)
    tokens = money_equivalent_tokens(training, Demand(1.5e12, 0.5e12, 1, 1, 1))
    assert tokens == 2e12
    original, best = choose(SARDANA, 13e9, tokens)
    assert plan_cost(training, best) == best.flop
    assert saved_percent(original, best) == pytest.approx(17.447, abs=5e-4)


def test_slow_writing_makes_a_smaller_model_cheaper() -> None:
    """At a low utilisation each token costs more, which is as if there were more of them."""
    training = FlopPrice(2e-18, 0.5)
    demand = Demand(1e12, 1e12, 1e-18, 0.5, 0.01)
    tokens = money_equivalent_tokens(training, demand)
    assert tokens == pytest.approx(0.5 * 0.5 * (2e12 + 100e12))
    original, best = choose(SARDANA, 13e9, tokens)
    by_hand = 6 * best.params * best.tokens * 2e-18 / 0.5 + 2 * best.params * 1e-18 * 102e12
    assert plan_cost(training, best) == pytest.approx(by_hand)
    assert best.params < choose(SARDANA, 13e9, 2e12)[1].params < original.params


def test_a_30b_model_with_ten_trillion_tokens_of_inference() -> None:
    """13.6B on 2.845 times the data saves 27.985 % (A9)."""
    original, best = choose(SARDANA, 30e9, 1e13)
    assert best.params == pytest.approx(1.3613e10, rel=1e-4)
    assert best.tokens / original.tokens == pytest.approx(2.845, abs=5e-4)
    assert saved_percent(original, best) == pytest.approx(27.985, abs=5e-4)


def test_the_refitted_constants_ask_for_about_twenty_tokens_a_parameter() -> None:
    """5.76e23 FLOP: 72.249B parameters, 1.3287T tokens, 18.39 each (A10)."""
    best = compute_optimal(EPOCH, 5.76e23)
    assert best.params == pytest.approx(7.2249e10, rel=1e-4)
    assert best.tokens == pytest.approx(1.3287e12, rel=1e-4)
    assert best.tokens / best.params == pytest.approx(18.39, abs=5e-3)


@pytest.mark.parametrize(
    ("params", "demand", "percent"), [(13e9, 2e12, 28.957), (30e9, 1e13, 42.710)]
)
def test_the_refitted_constants_save_more(params: float, demand: float, percent: float) -> None:
    """The same two questions with the default constants (A10)."""
    assert saved_percent(*choose(EPOCH, params, demand)) == pytest.approx(percent, abs=5e-4)


def test_the_published_constants_contradict_the_published_advice() -> None:
    """They ask for 92.65 tokens a parameter where the paper says about 20."""
    best = compute_optimal(HOFFMANN, 5.76e23)
    assert best.tokens / best.params == pytest.approx(92.65, abs=5e-3)


@pytest.mark.parametrize(
    ("params", "tokens", "outside"),
    [(70e6, 5e9, False), (16e9, 500e9, False), (17e9, 500e9, True), (16e9, 4e9, True)],
)
def test_a_plan_outside_the_fitted_range_says_so(
    params: float, tokens: float, outside: bool
) -> None:
    """The constants were fitted on 70M to 16B parameters and 5B to 500B tokens."""
    assert plan(EPOCH, params, tokens).extrapolated is outside


@given(st.sampled_from(sorted(LAWS)), st.floats(8, 12), st.floats(0, 15))
def test_no_other_size_is_cheaper_over_a_life(name: str, size: float, demand: float) -> None:
    """At the same loss, a somewhat smaller model costs more or never gets there; so do larger."""
    law = LAWS[name]
    _, best = choose(law, 10**size, 10**demand)
    for params in (0.9 * best.params, 1.1 * best.params):
        if law.loss(params, math.inf) >= best.loss:
            continue
        tokens = tokens_for_loss(law, params, best.loss)
        assert plan(law, params, tokens, 10**demand).flop > best.flop * (1 - 1e-9)


def test_without_inference_the_best_model_is_the_compute_optimal_one() -> None:
    """No demand, no reason to be smaller."""
    original, best = choose(EPOCH, 1e9, 0)
    assert best.params == pytest.approx(original.params, rel=1e-6)


IMPOSSIBLE: dict[str, Callable[[], object]] = {
    "a loss at the limit": lambda: inference_optimal(EPOCH, EPOCH.e, 1e12),
    "a loss too low for the size": lambda: tokens_for_loss(EPOCH, 1e6, 2.0),
    "no budget": lambda: compute_optimal(EPOCH, 0),
    "no parameters": lambda: plan(EPOCH, 0, 1),
    "no parameters to train": lambda: compute_optimal_tokens(EPOCH, 0),
    "a loss for no parameters": lambda: tokens_for_loss(EPOCH, -1, 2.0),
    "a negative demand": lambda: plan(EPOCH, 1, 1, -1),
    "no utilisation": lambda: money_equivalent_tokens(FlopPrice(1, 0), Demand(1, 1, 1, 1, 1)),
    "no price": lambda: money_equivalent_tokens(FlopPrice(1, 1), Demand(1, 1, 0, 1, 1)),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_what_no_model_can_do_is_refused(what: str) -> None:
    """A loss below the limit, no budget, a utilisation of nothing."""
    with pytest.raises(InvalidInput):
        IMPOSSIBLE[what]()
