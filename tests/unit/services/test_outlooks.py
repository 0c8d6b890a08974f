from datetime import date, timedelta

from steelyard.domain.ledger import Unit
from steelyard.domain.span import day_number
from steelyard.services.outlooks import history

TODAY = date(2026, 11, 21)
NUMBER = day_number(TODAY)


def _charged(*rows: tuple[int, Unit, int]) -> dict[Unit, dict[int, int]]:
    """Amounts of so many days ago."""
    found: dict[Unit, dict[int, int]] = {}
    for days_ago, unit, amount in rows:
        found.setdefault(unit, {})[NUMBER - days_ago] = amount
    return found


def test_a_day_without_reservations_cost_nothing_and_one_without_a_price_is_unknown() -> None:
    """Five days: charged, nothing reserved, reserved without a price, charged, today."""
    charged = _charged(
        (4, "device_us", 1), (4, "nUSD", 7),
        (2, "device_us", 1),
        (1, "device_us", 1), (1, "nUSD", 7),
        (0, "device_us", 1), (0, "nUSD", 3),
    )  # fmt: skip
    found = history(charged, "cost_nano", TODAY, "year")
    assert {(TODAY - day).days: amount for day, amount in found.daily.items()} == {4: 7, 3: 0, 1: 7}
    assert (found.today, found.began, found.known) == (3, TODAY - timedelta(days=4), True)
    assert found.outlook(TODAY, "month").unknown_days == 1


def test_what_never_had_an_amount_is_not_known_at_all() -> None:
    """Nothing of it was spent, and nothing was saved: nobody knows."""
    charged = _charged((1, "device_us", 1), (0, "device_us", 1))
    found = history(charged, "cost_nano", TODAY, "year")
    assert (found.daily, found.today, found.known) == ({}, None, False)


def test_days_before_the_first_charge_are_no_unknown_days() -> None:
    """A platform that began yesterday has spent what it spent since."""
    found = history(_charged((1, "nUSD", 9)), "cost_nano", TODAY, "year")
    outlook = found.outlook(TODAY, "year")
    assert (outlook.spent, outlook.unknown_days, outlook.ahead) == (9, 0, None)
    assert history({}, "cost_nano", TODAY, "year").today == 0


def test_a_forecast_does_not_depend_on_days_that_it_has_no_use_for() -> None:
    """A month looks back at most 48 weeks, whatever else was read: budget and report agree."""
    charged = _charged(*((n, "nUSD", 5) for n in range(1, 700)))
    month = history(charged, "cost_nano", TODAY, "month")
    year = history(charged, "cost_nano", TODAY, "year")
    assert (TODAY - month.began).days == 7 * (2 + 38 + 4)
    assert (TODAY - year.began).days == 7 * (6 + 38 + 4)
    for ahead in (month.outlook(TODAY, "month").ahead, year.outlook(TODAY, "year").ahead):
        assert ahead is not None
        assert ahead.origins == 39
