"""What a rollout is said to cost beside stable."""

from dataclasses import replace
from fractions import Fraction

from steelyard.domain.cost import Price
from steelyard.domain.energy import LoadModel
from steelyard.domain.metering import Resource
from steelyard.domain.posting import Coefficient, Valuation
from steelyard.domain.rehearsal import Reaction, Rehearsal, Traffic, rehearse
from steelyard.domain.rollout_plan import Candidate, Plan, Step, default_metrics
from steelyard.domain.rollout_spend import NOTHING, Served, Spend, spend

HOUR_US = 3_600_000_000
PLAN = Plan(
    (Step(5_000, 3_590.0), Step(10_000)),
    default_metrics(),
    keep_warm_s=1_800.0,
    probation_s=1_800.0,
)
REPLICA = Resource("replica/planned", "replica", "cpu", 1, 1, "vcpu", 0)
RATES = Valuation(
    [Price("p", "vcpu", "USD", 40_000_000, 0, 0)], LoadModel(Fraction(2), Fraction(10), ("w",)),
    Coefficient("grid", Fraction(400)), None, None, None, as_of_us=0,
)  # fmt: skip
FOUND = rehearse(PLAN, Traffic(10.0, 0.0), 10, Reaction(22, 1, 3))


def _spend(plan: Plan = PLAN, served: Served | None = None, found: Rehearsal = FOUND,
           rates: Valuation = RATES, replicas: int = 1) -> Spend:  # fmt: skip
    return spend(plan, found, REPLICA, rates, served or Served(), replicas)


def test_replicas_are_charged_from_readiness_to_the_end() -> None:
    """An hour of steps and an hour of keeping warm, at 4 cents, 10 W fully loaded, 400 g a kWh."""
    found = _spend()
    for part in (found.canary_least, found.canary_expected, found.warm):
        assert part is not None
        assert (part.device_us, part.cost_nano) == (HOUR_US, 40_000_000)
        assert (part.energy_mj, part.carbon_ug) == (36_000_000, 4_000_000)
        assert part.embodied_ug is None
    assert "upper bound" in found.basis


def test_energy_follows_what_the_model_s_replicas_drew() -> None:
    """A quarter busy: 2 W + a quarter of 8 W; a meter's word comes before that. Money does not."""
    quarter = _spend(served=Served(4_000_000, 900_000, 9, cpu_us=1_000_000)).canary_least
    metered = _spend(served=Served(4_000_000, 900_000, 9, 1_000_000, 12_000, "counter_cpu"))
    assert quarter is not None and metered.canary_least is not None
    assert (quarter.energy_mj, quarter.cost_nano) == (4 * 3_600_000, 40_000_000)
    assert metered.canary_least.energy_mj == 3 * 3_600_000
    assert "in the last hour" in metered.basis


def test_every_replica_of_every_candidate_counts() -> None:
    """Two replicas of two candidates are four; of old versions there is one, with two."""
    plan = replace(PLAN, candidates=(Candidate(2, 5_000), Candidate(3, 5_000)))
    found = _spend(plan, replicas=2)
    assert found.canary_least is not None and found.warm is not None
    assert found.canary_least.device_us == 4 * HOUR_US
    assert found.warm.device_us == 2 * HOUR_US


def test_copies_take_the_time_that_requests_take() -> None:
    """36,000 copies of 0.1 ms; unknown where no request was metered, nothing where none is made."""
    copying = replace(FOUND, copies=36_000)
    served = Served(4_000_000, busy_us=1_000, requests=10, cpu_us=1_000)
    copies = _spend(found=copying, served=served).copies
    assert copies is not None and copies.device_us == 3_600_000
    assert _spend(found=copying).copies is None
    assert _spend().copies == NOTHING


def test_what_is_not_known_is_not_nothing() -> None:
    """Without traffic no time of the candidate, without a price no money, without watts no energy.

    What the old version takes is known all the same.
    """
    quiet = rehearse(PLAN, Traffic(0.0, 0.0), 10, Reaction(22, 1, 3))
    found = _spend(found=quiet, rates=replace(RATES, prices=[], load_model=None))
    assert (found.canary_least, found.canary_expected, found.copies) == (None, None, None)
    assert found.warm is not None and found.warm.device_us == HOUR_US
    assert (found.warm.cost_nano, found.warm.energy_mj, found.warm.carbon_ug) == (None, None, None)
