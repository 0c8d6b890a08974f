import pytest

from steelyard.domain.errors import InvalidInput
from steelyard.domain.lineage import Upstream, ancestors, upstream

PARENTS = {"S10": ["T"], "S20": ["T"], "E": ["S10", "S20"]}
OWN = {"T": 100, "S10": 10, "S20": 20, "E": 5}


def test_a_teacher_that_two_students_share_counts_once() -> None:
    """Teacher 100, students 10 and 20, ensemble 5: upstream 130, total 135, not 235 (A22)."""
    found = upstream(OWN, PARENTS, "E")
    assert (found.upstream, found.total) == (130, 135)
    assert found.ancestors == {"T", "S10", "S20"}


def test_a_version_without_parents_stands_on_nothing() -> None:
    """Nothing upstream is known to be 0, and the total is its own."""
    assert upstream(OWN, PARENTS, "T") == Upstream(100, 0, frozenset(), frozenset())
    assert upstream(OWN, PARENTS, "T").total == 100


@pytest.mark.parametrize("missing", ["T", "E"])
def test_an_unknown_figure_makes_the_total_unknown(missing: str) -> None:
    """What is known upstream is a lower bound, and says whose figure is missing."""
    found = upstream({**OWN, missing: None}, PARENTS, "E")
    assert found.total is None
    assert found.unknown == {missing} - {"E"}
    assert found.upstream == (30 if missing == "T" else 130)


@pytest.mark.parametrize(
    "parents", [{"E": ["E"]}, {"E": ["A"], "A": ["E"]}, {"E": ["A"], "A": ["B"], "B": ["A"]}]
)
def test_a_version_that_descends_from_itself_is_refused(parents: dict[str, list[str]]) -> None:
    """Also when the circle is further up."""
    with pytest.raises(InvalidInput, match="descends from itself"):
        ancestors(parents, "E")
