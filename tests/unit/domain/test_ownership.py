from steelyard.domain.ownership import DAY_US, Ownership, stretches, teams_on


def _own(model: str, team: str, day: int, recorded: int = 0) -> Ownership:
    return Ownership(model, team, day * DAY_US, recorded)


RECORDS = [_own("a", "shop", 0), _own("a", "ads", 10), _own("b", "shop", 5)]


def test_a_model_belongs_to_the_team_that_got_it_last() -> None:
    """Before anybody got it, it is nobody's."""
    assert teams_on(RECORDS, 4) == {"a": "shop"}
    assert teams_on(RECORDS, 10) == {"a": "ads", "b": "shop"}
    assert teams_on([], 10) == {}


def test_of_two_records_of_one_day_the_last_recorded_counts() -> None:
    """A correction replaces what was recorded before it."""
    assert teams_on([_own("a", "shop", 3, 1), _own("a", "ads", 3, 2)], 3) == {"a": "ads"}


def test_days_are_cut_where_a_model_changes_hands() -> None:
    """Every day of the span is in exactly one stretch."""
    found = stretches(RECORDS, 2, 12)
    assert [(s.first_day, s.last_day) for s in found] == [(2, 4), (5, 9), (10, 12)]
    assert [s.models("shop") for s in found] == [{"a"}, {"a", "b"}, {"b"}]
    assert [s.models("ads") for s in found] == [set(), set(), {"a"}]
    assert len(stretches(RECORDS, 20, 30)) == 1
