"""How often rollouts are rolled back, promoted and held: the design's table with our own code.

20,000 seeded rollouts a cell unless said otherwise. A figure must be within ±0.012 of the published
one, which is of 20,000 rollouts too: their difference has a standard error of 0.005 at most.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from steelyard.adapters.sql.database import migrate, open_engine
from steelyard.adapters.sql.rollouts import RolloutStore
from steelyard.domain.analysis import FAIR, Metric, Observed, judge, ln_e_bad, ln_e_good
from steelyard.domain.e_process import (
    Counts,
    Interval,
    ln_e_above_limit,
    ln_e_below_limit,
    ln_e_worse,
)

RUNS, MARGIN, SEED = 20_000, 0.012, 7
AT = math.log(20)
PLAIN, FLOORED = Metric("errors", margin=2.0), Metric("errors", margin=2.0, floor=0.01)
FLAT = (0.05,) * 10
RAMP = (0.01, 0.01, 0.05, 0.05, 0.1, 0.1, 0.25, 0.25, 0.5, 0.5)
Events = NDArray[np.float64]
Rates = tuple[float, float, float]


def _close(found: Sequence[float], published: Sequence[float]) -> bool:
    return bool(np.all(np.abs(np.array(found) - published) <= MARGIN))


def _events(
    canary: Sequence[float], stable: Sequence[float], n_canary: Events, n_stable: Events, runs: int
) -> tuple[Events, Events]:
    """Events of both arms, (runs, looks), at a share of events per look."""
    random = np.random.default_rng(SEED)
    x_canary = random.binomial(n_canary.astype(int), canary, (runs, len(n_canary)))
    x_stable = random.binomial(n_stable.astype(int), stable, (runs, len(n_stable)))
    return x_canary.astype(float), x_stable.astype(float)


def _looks(counts: Counts) -> Iterator[Counts]:
    """What is known at each look; intervals of the same weights are added up, which is the same."""
    n_canary, n_stable = counts.n_canary, counts.n_stable
    _, first, group = np.unique(n_canary / (n_canary + n_stable), return_index=True,
                                return_inverse=True)  # fmt: skip
    merged = np.zeros((2, len(counts.x_canary), len(first)))
    seen = np.zeros((2, len(first)))
    for look, place in enumerate(group):
        merged[0, :, place] += counts.x_canary[:, look]
        merged[1, :, place] += counts.x_stable[:, look]
        seen[:, place] += n_canary[look], n_stable[look]
        yield Counts(seen[0], merged[0], seen[1], merged[1])


def _rates(counts: Counts, metric: Metric, metrics: int = 1) -> Rates:
    """Shares of rollouts that are rolled back, promoted and held; a rollback wins ties."""
    outcome = np.zeros(len(counts.x_canary), int)
    worse_at = math.log(metrics / 0.05)
    for known in _looks(counts):
        bad, good = ln_e_bad(metric, known) >= worse_at, ln_e_good(metric, known) >= AT
        outcome = np.where(outcome, outcome, np.where(bad, 1, np.where(good, 2, 0)))
    shares = [float((outcome == end).mean()) for end in (1, 2, 0)]
    return shares[0], shares[1], shares[2]


def _counts(
    canary: float | Sequence[float], stable: float | Sequence[float], requests: int,
    weights: Sequence[float], runs: int = RUNS,
) -> Counts:  # fmt: skip
    """Imagined rollouts: shares of events in per cent, for all looks or for each."""
    n_canary = np.floor(requests * np.array(weights))
    n_stable = requests - n_canary
    shares = [np.broadcast_to(np.array(s) / 100, n_canary.shape) for s in (canary, stable)]
    x_canary, x_stable = _events(
        list(map(float, shares[0])), list(map(float, shares[1])), n_canary, n_stable, runs
    )
    return Counts(n_canary, x_canary, n_stable, x_stable)


@pytest.mark.parametrize(
    ("canary", "stable", "requests", "weights", "published"),
    [
        (0.5, 0.5, 600, FLAT, (0.008, 0.008, 0.984)),
        (0.5, 0.5, 600, RAMP, (0.010, 0.141, 0.849)),
        (0.5, 0.5, 6_000, FLAT, (0.004, 0.584, 0.411)),
        (0.5, 0.5, 6_000, RAMP, (0.008, 0.902, 0.091)),
        (1.5, 0.5, 600, FLAT, (0.251, 0.001, 0.749)),
        (1.5, 0.5, 600, RAMP, (0.503, 0.001, 0.495)),
        (1.5, 0.5, 6_000, FLAT, (0.994, 0.001, 0.006)),
        (1.5, 0.5, 6_000, RAMP, (0.999, 0.001, 0.0)),
        (5, 0.5, 600, FLAT, (0.993, 0.0, 0.007)),
        (5, 0.5, 600, RAMP, (1.0, 0.0, 0.0)),
        (5, 0.5, 6_000, FLAT, (1.0, 0.0, 0.0)),
        (5, 0.5, 6_000, RAMP, (1.0, 0.0, 0.0)),
        (3, 3, 600, FLAT, (0.004, 0.378, 0.618)),
        (3, 3, 600, RAMP, (0.006, 0.681, 0.312)),
        (3, 3, 6_000, FLAT, (0.002, 0.998, 0.0)),
        (3, 3, 6_000, RAMP, (0.004, 0.996, 0.0)),
    ],
    ids=lambda value: "ramp" if value == RAMP else "flat" if value == FLAT else None,
)
def test_the_published_rates_are_reproduced(
    canary: float, stable: float, requests: int, weights: Sequence[float], published: Rates
) -> None:
    """Rollback, promotion and hold of every cell; equal versions fall at most once in twenty."""
    found = _rates(_counts(canary, stable, requests, weights), PLAIN)
    assert _close(found, published), found
    assert canary != stable or found[0] <= 0.05


@pytest.mark.parametrize(
    ("canary", "stable", "requests", "weights", "runs", "published"),
    [
        (1, 0.5, 6_000, FLAT, RUNS, 0.017),
        (1, 0.5, 6_000, RAMP, RUNS, 0.016),
        (1, 0.5, 6_000, (0.5,) * 200, 3_000, 0.010),
        (20, 10, 600, RAMP, RUNS, 0.006),
    ],
    ids=["flat", "ramp", "200 looks", "frequent"],
)
def test_a_version_at_the_margin_is_seldom_promoted(
    canary: float, stable: float, requests: int, weights: Sequence[float], runs: int,
    published: float,
) -> None:  # fmt: skip
    """Twice as bad is what the margin says is not good enough; 200 looks are no better chance."""
    found = _rates(_counts(canary, stable, requests, weights, runs), PLAIN)
    assert abs(found[1] - published) <= MARGIN, found


def test_looking_a_thousand_times_costs_nothing() -> None:
    """Equal versions at 5 %, ever rolled back; 1,500 rollouts."""
    counts = _counts(0.5, 0.5, 6_000, (0.05,) * 1_000, 1_500)
    fallen = np.zeros(1_500, bool)
    for known in _looks(counts):
        fallen |= ln_e_worse(known) >= AT
    assert abs(float(fallen.mean()) - 0.009) <= MARGIN


def test_an_outage_of_both_rolls_nobody_back() -> None:
    """30 % of errors on both sides; a base that jumps between 0.3 and 3 %; events in common."""
    assert _rates(_counts(30, 30, 6_000, RAMP), PLAIN)[0] <= MARGIN
    base = (0.3, 3.0) * 5
    assert abs(_rates(_counts(base, base, 6_000, RAMP), PLAIN)[0] - 0.004) <= MARGIN
    n_canary = np.floor(6_000 * np.array(RAMP))
    random = np.random.default_rng(3)
    failed = np.where(random.random((RUNS, 10)) < 0.3, 3_000, 30)
    x_canary = random.hypergeometric(failed, 6_000 - failed, n_canary.astype(int))
    counts = Counts(n_canary, x_canary.astype(float), 6_000 - n_canary,
                    (failed - x_canary).astype(float))  # fmt: skip
    assert _rates(counts, PLAIN)[0] <= MARGIN


@pytest.mark.parametrize(("requests", "published"), [(600, 0.135), (6_000, 0.983)])
def test_four_metrics_that_roll_back_share_the_chance(requests: int, published: float) -> None:
    """Three times as bad is found a little later by each of four."""
    found = _rates(_counts(1.5, 0.5, requests, FLAT), PLAIN, metrics=4)
    assert abs(found[0] - published) <= MARGIN, found


def test_the_floor_promotes_what_has_too_few_events_to_compare() -> None:
    """0.01 % of errors on both sides: with an acceptable share of 1 % nearly all pass."""
    rare = _counts(0.01, 0.01, 6_000, RAMP)
    assert abs(_rates(rare, PLAIN)[1] - 0.005) <= MARGIN
    assert abs(_rates(rare, FLOORED)[1] - 0.998) <= MARGIN
    assert abs(_rates(_counts(1, 0.5, 6_000, RAMP), FLOORED)[1] - 0.022) <= MARGIN


@pytest.mark.parametrize(
    ("truth", "published"), [(0.01, 0.0), (0.02, 0.004), (0.03, 0.204), (0.04, 0.8)]
)
def test_a_limit_is_held(truth: float, published: float) -> None:
    """A limit of 2 %, ten looks of 100 answers."""
    metric = Metric("disagreement", limit=0.02)
    n_canary = np.full(10, 100.0)
    x_canary, x_stable = _events([truth] * 10, [0.0] * 10, n_canary, n_canary, RUNS)
    fallen = np.zeros(RUNS, bool)
    for look in range(1, 11):
        known = Counts(n_canary, x_canary, n_canary, x_stable).until(look)
        fallen |= ln_e_bad(metric, known) >= AT
    assert abs(float(fallen.mean()) - published) <= MARGIN


def _window(dearer: NDArray[np.bool_]) -> Counts:
    """Intervals in which the canary cost more than stable, or less."""
    ones = np.ones(dearer.shape[-1])
    return Counts(ones, np.where(dearer, 2.0, 0.5), ones, np.ones(dearer.shape))


def test_a_version_that_costs_the_same_is_seldom_judged() -> None:
    """A fair coin over a thousand intervals: both wrong verdicts.

    What an interval says is one of two things, so a look has as many kinds of rollouts as looks.
    """
    dearer = np.random.default_rng(SEED).random((RUNS, 1_000), np.float32) < 0.5
    seen = dearer.cumsum(1, dtype=np.int16)
    bad, good = np.zeros(RUNS, bool), np.zeros(RUNS, bool)
    for look in range(1, 1_001):
        kinds = np.arange(look + 1.0)
        bad |= (ln_e_above_limit(look, kinds, FAIR) >= AT)[seen[:, look - 1]]
        good |= (ln_e_below_limit(look, kinds, FAIR) >= AT)[seen[:, look - 1]]
    assert abs(float(bad.mean()) - 0.038) <= MARGIN
    assert abs(float(good.mean()) - 0.045) <= MARGIN
    known, metric = _window(dearer[:50, :200]), Metric("cost")
    x = seen[:50, 199].astype(float)
    assert ln_e_bad(metric, known) == pytest.approx(ln_e_above_limit(200, x, FAIR))
    assert ln_e_good(metric, known) == pytest.approx(ln_e_below_limit(200, x, FAIR))


def test_a_version_that_always_costs_more_is_found_out_in_seven_intervals() -> None:
    """Ten when four metrics share the chance; one that always costs less is proven in five."""
    metric = Metric("cost")

    def first(dearer: bool, at: float) -> int:
        ask = ln_e_bad if dearer else ln_e_good
        counts = _window(np.full((1, 20), dearer))
        return next(k for k in range(1, 21) if float(ask(metric, counts.until(k))[0]) >= at)

    assert (first(True, AT), first(True, math.log(80)), first(False, AT)) == (7, 10, 5)


def test_a_restarted_controller_has_the_same_evidence(tmp_path: Path) -> None:
    """From the rows in the database, opened anew at each look, as from one that never stopped."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    engine = open_engine(url)
    migrate(engine)
    engine.dispose()
    counts = _counts(1.5, 0.5, 6_000, RAMP, 1)
    for look in range(10):
        engine = open_engine(url)
        store = RolloutStore(engine)
        row = Interval(*(int(np.atleast_2d(column)[0, look]) for column in counts))
        store.observations.keep("r", "errors", {(1 + look // 2, look): row}, look)
        rows = store.observations.by_metric("r")["errors"]
        verdict = judge(PLAIN, Observed(rows), 1)
        known = counts.until(look + 1)
        assert verdict.ln_e_worse == pytest.approx(float(ln_e_bad(PLAIN, known)[0]), abs=1e-9)
        assert verdict.ln_e_good == pytest.approx(float(ln_e_good(PLAIN, known)[0]), abs=1e-9)
        engine.dispose()


USERS = 2_000


def _falls(rows: Sequence[Interval]) -> bool:
    """Whether a rollout is ever rolled back, looked at after each interval."""
    counts = Counts.of(rows)
    return any(float(ln_e_worse(counts.until(k))) >= AT for k in range(1, len(rows) + 1))


def _alike(
    random: np.random.Generator, weights: Sequence[float], each: float
) -> tuple[list[Interval], list[Interval]]:
    """One rollout of equal versions, counted by requests and by units' first events.

    2 % of 2,000 users fail in a quarter of their requests, whichever version answers them.
    """
    bucket, failing = random.random(USERS), random.random(USERS) < 0.02
    untouched = np.ones(USERS, bool)
    by_request, by_unit = [], []
    for weight in weights:
        canary = bucket < weight
        asked = random.poisson(each, USERS)
        failed = random.binomial(asked, np.where(failing, 0.25, 0.0))
        active, hit = untouched & (asked > 0), untouched & (failed > 0)
        by_request.append(Interval(*(
            int(of[arm].sum()) for arm in (canary, ~canary) for of in (asked, failed)
        )))  # fmt: skip
        by_unit.append(Interval(*(
            int((of & arm).sum()) for arm in (canary, ~canary) for of in (active, hit)
        )))  # fmt: skip
        untouched &= ~hit
    return by_request, by_unit


@pytest.mark.parametrize("weights", [FLAT, RAMP], ids=["flat", "ramp"])
def test_users_whose_requests_are_alike_are_counted_once(weights: Sequence[float]) -> None:
    """Equal versions: by requests 12 to 22 % are rolled back, by first events about 1 %.

    800 rollouts of 6,000 requests a look; three standard errors on either side.
    """
    random = np.random.default_rng(17)
    runs = [_alike(random, weights, 3.0) for _ in range(800)]
    by_request = sum(_falls(requests) for requests, _ in runs) / len(runs)
    by_unit = sum(_falls(units) for _, units in runs) / len(runs)
    assert 0.12 - 0.03 <= by_request <= 0.22 + 0.03, by_request
    assert by_unit <= 0.01 + 0.01, by_unit
