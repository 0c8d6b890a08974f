"""A version that is tried again: what earlier attempts found counts for it, never against it."""

from dataclasses import replace

import pytest

from steelyard.domain.analysis import Metric, Observed, judge
from steelyard.domain.e_process import Interval
from steelyard.domain.unit_spread import Spread

ERRORS = Metric("errors", margin=2.0, floor=0.01, required=True)
CLEAN, BAD = (Interval(200, 0, 3_800, 4),), (Interval(200, 30, 3_800, 4),)


def test_a_proof_goes_on_where_the_attempt_before_ended() -> None:
    """Three attempts of 200 clean requests prove what 600 at once would, and 200 do not."""
    alone = judge(ERRORS, Observed(CLEAN), 1)
    third = judge(ERRORS, Observed(CLEAN, earlier=CLEAN * 2), 1)
    whole = judge(ERRORS, Observed(CLEAN * 3), 1)
    assert (alone.judgement, third.judgement) == ("inconclusive", "successful")
    assert third.ln_e_good == pytest.approx(whole.ln_e_good, abs=1e-12)
    assert third.ln_e_worse == alone.ln_e_worse
    assert (third.canary, third.stable) == ((200, 0), (3_800, 4))


def test_an_attempt_that_was_rolled_back_does_not_end_the_next_one() -> None:
    """It was worse then; whether it still is, is found out anew. It makes a proof harder."""
    assert judge(ERRORS, Observed(BAD), 1).judgement == "failed"
    again = judge(ERRORS, Observed(CLEAN * 3, earlier=BAD), 1)
    assert again.judgement == "inconclusive"
    assert again.ln_e_good < judge(ERRORS, Observed(CLEAN * 3), 1).ln_e_good


def test_nothing_of_this_attempt_is_no_proof_of_it() -> None:
    """A version that has not answered yet is held, whatever it did before."""
    assert judge(ERRORS, Observed(earlier=CLEAN * 5), 1).judgement == "inconclusive"


def test_the_floor_that_overrules_units_is_that_of_all_attempts() -> None:
    """Units speak against it, so the floor alone must be proven; earlier requests help."""
    spread = Spread(200, 1, 1, 1, 200), Spread(3_800, 1, 1, 1, 3_800)
    metric = replace(ERRORS, margin=1.5)
    shown = Observed((Interval(400, 0, 400, 1),), spread, earlier=CLEAN)
    assert judge(metric, shown, 1).judgement == "successful"
    assert judge(metric, replace(shown, earlier=()), 1).judgement == "inconclusive"
