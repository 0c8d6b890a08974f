from datetime import date, timedelta

from steelyard.domain.ledger import Unit
from steelyard.domain.measures import Amount
from steelyard.domain.span import day_number
from steelyard.services.outlooks import history

TODAY = date(2026, 11, 21)
NUMBER = day_number(TODAY)


def _of(days_ago: int, unit: Unit, amount: int) -> Amount:
    return Amount("a", 1, "inference", "consumer", unit, "", amount, NUMBER - days_ago)


def test_a_day_without_reservations_cost_nothing_and_one_without_a_price_is_unknown() -> None:
    """Five days: charged, nothing reserved, reserved without a price, charged, today."""
    found = history(
        [
            _of(4, "device_us", 1), _of(4, "nUSD", 7),
            _of(2, "device_us", 1),
            _of(1, "device_us", 1), _of(1, "nUSD", 5), _of(1, "nUSD", 2),
            _of(0, "device_us", 1), _of(0, "nUSD", 3),
        ],
        "cost_nano", TODAY,
    )  # fmt: skip
    assert {(TODAY - day).days: amount for day, amount in found.daily.items()} == {4: 7, 3: 0, 1: 7}
    assert (found.today, found.began, found.known) == (3, TODAY - timedelta(days=4), True)
    assert found.outlook(TODAY, "month").unknown_days == 1


def test_what_never_had_an_amount_is_not_known_at_all() -> None:
    """Nothing of it was spent, and nothing was saved: nobody knows."""
    found = history([_of(1, "device_us", 1), _of(0, "device_us", 1)], "cost_nano", TODAY)
    assert (found.daily, found.today, found.known) == ({}, None, False)


def test_days_before_the_first_charge_are_no_unknown_days() -> None:
    """A platform that began yesterday has spent what it spent since."""
    found = history([_of(1, "nUSD", 9)], "cost_nano", TODAY)
    outlook = found.outlook(TODAY, "year")
    assert (outlook.spent, outlook.unknown_days, outlook.ahead) == (9, 0, None)
    assert history([], "cost_nano", TODAY).today == 0
