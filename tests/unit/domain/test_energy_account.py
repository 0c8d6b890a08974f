"""How a producer turns the meter's running totals into the energy of its windows."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.energy_account import (
    UNKNOWN,
    Account,
    Metered,
    Position,
    skip,
    take,
    unread_uj,
)
from steelyard.domain.power import Share

SECOND = 1_000_000
EMPTY = Account("m", since_us=0, until_us=0, interval_us=SECOND)


def counted(energy_uj: int, at_s: float, account: Account = EMPTY) -> Account:
    """The account after so much more energy, up to a moment."""
    return account.plus(Share(energy_uj, "counter_cpu"), int(at_s * SECOND))


def test_windows_take_what_has_come_since_the_last_one() -> None:
    """Millijoules; what is left of one stays for the next window."""
    first, position = take(Position(0), counted(5_700, 10), 10 * SECOND, 10 * SECOND)
    later = counted(400, 20, counted(5_700, 10))
    second, position = take(position, later, 20 * SECOND, 10 * SECOND)
    assert (first, second) == (Metered(5, "counter_cpu"), Metered(1, "counter_cpu"))
    assert position.booked_uj == 6_000
    assert first.boundary == "chip"


def test_no_meter_is_unknown_and_not_nothing() -> None:
    """Without an account there is no figure; the ledger's load model applies."""
    metered, _ = take(Position(0), None, 10 * SECOND, 10 * SECOND)
    assert metered == UNKNOWN == Metered(None, "unknown")
    assert metered.boundary is None


def test_old_figures_are_unknown_and_the_window_after_them_too() -> None:
    """What comes after a silence is two windows' energy, and the first was estimated already."""
    metered, position = take(Position(0), counted(9_000, 2), 10 * SECOND, 10 * SECOND)
    assert metered == UNKNOWN
    caught_up = counted(20_000, 20)
    metered, position = take(position, caught_up, 20 * SECOND, 10 * SECOND)
    assert metered == UNKNOWN
    metered, _ = take(position, counted(3_000, 30, caught_up), 30 * SECOND, 10 * SECOND)
    assert metered == Metered(3, "counter_cpu")


def test_an_interval_that_is_not_known_spoils_its_window_only() -> None:
    """A counter was reset in the first window; the second is measured again."""
    gap = counted(4_000, 5).plus(Share(None, "unknown"), 10 * SECOND)
    metered, position = take(Position(0), gap, 10 * SECOND, 10 * SECOND)
    assert metered == UNKNOWN
    metered, _ = take(position, counted(2_000, 20, gap), 20 * SECOND, 10 * SECOND)
    assert metered == Metered(2, "counter_cpu")


def test_another_meter_that_took_over_starts_from_its_own_beginning() -> None:
    """The window in which it did is unknown; no energy of the first is taken for the second's."""
    _, position = take(Position(0), counted(50_000, 10), 10 * SECOND, 10 * SECOND)
    second = Account("n", since_us=15 * SECOND, until_us=15 * SECOND, interval_us=SECOND)
    metered, position = take(position, counted(5_000, 20, second), 20 * SECOND, 10 * SECOND)
    assert metered == UNKNOWN
    last = counted(7_000, 30, counted(5_000, 20, second))
    metered, position = take(position, last, 30 * SECOND, 10 * SECOND)
    assert metered == Metered(7, "counter_cpu")
    assert unread_uj(last, position.meter, position.booked_uj) == 0


def test_a_measurement_that_began_inside_the_window_is_no_figure_for_all_of_it() -> None:
    """A training attempt reserves its devices before its workers exist."""
    position = Position(since_us=20 * SECOND)
    started = counted(0, 20)
    late, _ = take(position, counted(9_000, 30, started), 30 * SECOND, 30 * SECOND)
    early, _ = take(position, counted(9_000, 30, started), 30 * SECOND, 11 * SECOND)
    assert (late, early) == (UNKNOWN, Metered(9, "counter_cpu"))


def test_too_short_a_measurement_has_no_figure() -> None:
    """Figures come once a second; half a second of work cannot be told from its neighbours."""
    account = counted(9_000, 10)
    position = skip(Position(0), account, 10 * SECOND)
    metered, _ = take(position, account, 10 * SECOND + 500_000, 500_000)
    assert metered == UNKNOWN


def test_short_windows_in_a_row_share_what_was_measured() -> None:
    """Epochs shorter than an interval: figures move between neighbours, their sum is right."""
    _, position = take(Position(0), counted(9_000, 10), 10 * SECOND, 10 * SECOND)
    taken = []
    for half in range(1, 9):
        account = counted(1_000 * (half // 2), 10 + half // 2, counted(9_000, 10))
        now = 10 * SECOND + half * 500_000
        metered, position = take(position, account, now, 500_000)
        taken.append(metered.energy_mj)
    assert taken == [0, 1, 0, 1, 0, 1, 0, 1]


def test_what_was_skipped_goes_back_to_the_node() -> None:
    """Between two activities a driver has nothing reserved."""
    account = counted(8_000, 10)
    position = skip(Position(0), account, 10 * SECOND)
    later = counted(5_500, 20, account)
    metered, position = take(position, later, 20 * SECOND, 10 * SECOND)
    assert metered == Metered(5, "counter_cpu")
    assert unread_uj(later, position.meter, position.booked_uj) == 8_500


def test_what_another_meter_was_told_does_not_count() -> None:
    """A producer's last word was to the meter before: all of this account is the node's."""
    assert unread_uj(counted(8_000, 10), "earlier", 3_000) == 8_000


def test_an_account_claims_the_weakest_method_it_has_seen() -> None:
    """Once a sampled figure is inside the sum, the sum is sampled."""
    mixed = counted(5, 1).plus(Share(5, "sampled_power"), 2 * SECOND)
    assert replace(mixed).method == "sampled_power"
    assert mixed.plus(Share(5, "counter_cpu"), 3 * SECOND).method == "sampled_power"


@given(st.lists(st.tuples(st.integers(0, 10**7), st.sampled_from(["take", "skip", "gap"]))))
def test_every_microjoule_is_booked_or_left_to_the_node(steps: list[tuple[int, str]]) -> None:
    """Booked + unread = attributed, whatever the windows were; measured windows book no more."""
    account, position, shown = EMPTY, Position(0), 0
    for second, (energy, step) in enumerate(steps, start=1):
        account = counted(energy, second, account)
        if step == "gap":
            account = account.plus(Share(None, "unknown"), second * SECOND)
        if step == "skip":
            position = skip(position, account, second * SECOND)
        else:
            metered, position = take(position, account, second * SECOND, SECOND)
            shown += (metered.energy_mj or 0) * 1_000
    left = unread_uj(account, position.meter, position.booked_uj)
    assert left >= 0
    assert shown <= position.booked_uj
    assert position.booked_uj + left == sum(energy for energy, _ in steps)
