from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.ownership import DAY_US, Ownership, Tenure, teams_on, tenures


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


def test_a_model_changes_hands_and_no_day_is_counted_twice() -> None:
    """Within the days asked for; before anybody got it, it is nobody's."""
    assert tenures(RECORDS, 2, 12) == [
        Tenure("a", "shop", 2, 9), Tenure("a", "ads", 10, 12), Tenure("b", "shop", 5, 12),
    ]  # fmt: skip
    assert tenures(RECORDS, 20, 30) == [Tenure("a", "ads", 20, 30), Tenure("b", "shop", 20, 30)]
    assert tenures(RECORDS, 0, 4) == [Tenure("a", "shop", 0, 4)]
    assert tenures([_own("a", "shop", 3, 1), _own("a", "ads", 3, 2)], 0, 3) == [
        Tenure("a", "ads", 3, 3)
    ]


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 10**12))),
    st.integers(0, 12), st.integers(0, 12),
)  # fmt: skip
def test_tenures_say_of_every_day_what_the_records_say(
    rows: list[tuple[str, str, int]], first: int, days: int
) -> None:
    """Also when models change hands within a day, or to the team that has them."""
    records = sorted(
        (Ownership(model, team, moment, n) for n, (model, team, moment) in enumerate(rows)),
        key=lambda r: (r.model, r.valid_from_us, r.recorded_us),
    )
    found = tenures(records, first, first + days)
    for day in range(first, first + days + 1):
        on_day = [(t.model, t.team) for t in found if t.first_day <= day <= t.last_day]
        assert sorted(on_day) == sorted(teams_on(records, day).items())
