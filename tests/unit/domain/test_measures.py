from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.ledger import Unit
from steelyard.domain.measures import (
    Amount,
    Measures,
    Owned,
    SharedIdle,
    by_tier,
    metered_share,
    shared_out,
    sides,
)
from steelyard.domain.metering import LedgerPhase


def _amount(
    phase: LedgerPhase, role: str, amount: int, unit: Unit = "nUSD", tier: str = "",
    model: str = "a", day: int | None = None,
) -> Amount:  # fmt: skip
    return Amount(model, 1, phase, role, unit, tier, amount, day)  # type: ignore[arg-type]


def test_the_two_bases_differ_by_idle_time() -> None:
    """Direct use leaves out what runs and replicas waited; FLOPs are the same on both."""
    found = sides(
        [
            _amount("training", "consumer", 100), _amount("training", "idle", 20),
            _amount("inference", "consumer", 7), _amount("inference", "idle", 3),
        ],
        50, 60,
    )  # fmt: skip
    usage, allocation = found.on("usage"), found.on("allocation")
    assert (usage.training.cost_nano, usage.inference.cost_nano) == (100, 7)
    assert (allocation.training.cost_nano, allocation.inference.cost_nano) == (120, 10)
    assert (usage.training.flop, allocation.inference.flop) == (50, 60)


def test_what_has_no_amount_is_unknown_and_adds_nothing() -> None:
    """Unknown and known add up to the known; unknown alone stays unknown."""
    assert sides([]).on("allocation").inference == Measures()
    assert Measures(cost_nano=1) + Measures(energy_mj=2) == Measures(cost_nano=1, energy_mj=2)


def test_energy_is_told_by_the_method_that_found_it() -> None:
    """Carbon and money have no part in it; a share of metered energy needs energy."""
    amounts = [
        _amount("inference", "consumer", 30, "mJ", "counter_gpu"),
        _amount("inference", "idle", 10, "mJ", "modelled_load"),
        _amount("inference", "idle", 99, "ugCO2e_loc", "modelled_load"),
    ]
    assert by_tier(amounts) == {"counter_gpu": 30, "modelled_load": 10}
    assert metered_share(by_tier(amounts)) == 0.75
    assert metered_share({}) is None


A: Owned = ("a", 1, "inference")
B: Owned = ("b", 1, "inference")


@given(
    idle=st.integers(1, 10**15), a=st.integers(0, 10**12), b=st.integers(0, 10**12),
    other_day=st.integers(0, 10**12),
)  # fmt: skip
def test_shared_idle_time_goes_out_whole_or_not_at_all(
    idle: int, a: int, b: int, other_day: int
) -> None:
    """To those who used it that day, to the last unit; without a user it stays nobody's."""
    parts = shared_out(
        [SharedIdle("idle:x", 5, "nUSD", "", idle)],
        {"idle:x": {A, B}},
        {(5, "nUSD"): {A: a, B: b}, (6, "nUSD"): {A: other_day}},
    )
    assert sum(p.amount for p in parts) == (idle if a or b else 0)
    assert all(p.role == "idle" and p.day == 5 for p in parts)
    alone = shared_out([SharedIdle("idle:x", 5, "nUSD", "", idle)], {"idle:x": {A}}, {})
    assert [(p.model, p.amount) for p in alone] == [("a", idle)]
    if a > b:
        shares = {p.model: p.amount for p in parts}
        assert shares.get("a", 0) >= shares.get("b", 0)
