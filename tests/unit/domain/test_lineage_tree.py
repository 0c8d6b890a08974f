from dataclasses import replace

import pytest

from steelyard.domain.errors import InvalidInput
from steelyard.domain.lineage_tree import Branch, Kin, around, branches, grow, label

TRAINED = Kin("digits", 1, "fp32", "trained", "run1", "a" * 64)


def _variant(number: int, parent: int) -> Kin:
    return replace(TRAINED, version=number, variant="fp16", relation="quantized", parent=parent)


def _names(trees: tuple[Branch, ...]) -> list[str]:
    return [branch.kin.name for branch in branches(trees)]


def test_variants_hang_below_their_parents_oldest_first() -> None:
    """Two trainings, variants of both, a variant of a variant; in whatever order they come."""
    family = [_variant(5, 2), _variant(4, 3), TRAINED, _variant(3, 1), replace(TRAINED, version=2)]
    trees = grow(family)
    assert _names(trees) == ["digits/1", "digits/3", "digits/4", "digits/2", "digits/5"]
    assert not any(branch.orphan for branch in branches(trees))


def test_one_version_is_shown_with_ancestors_and_offspring_only() -> None:
    """Its brothers are left out; a version that is not there has nothing around it."""
    trees = grow([TRAINED, _variant(2, 1), _variant(3, 1), _variant(4, 3), _variant(5, 3)])
    assert _names(around(trees, 3)) == ["digits/1", "digits/3", "digits/4", "digits/5"]
    assert _names(around(trees, 4)) == ["digits/1", "digits/3", "digits/4"]
    assert around(trees, 9) == ()


def test_a_deleted_parent_stays_in_the_tree_and_its_variants_are_orphans() -> None:
    """Only its children: what descends from an orphan still has a parent."""
    trees = grow([replace(TRAINED, deleted=True), _variant(2, 1), _variant(3, 2)])
    first, second, third = branches(trees)
    assert "deleted from the registry" in label(first)
    assert label(second).endswith("orphan: its parent digits/1 is gone")
    assert not third.orphan


def test_an_orphan_whose_parent_nobody_knows_starts_a_tree() -> None:
    """It was deleted before the ledger saw it."""
    (tree,) = grow([_variant(2, 1)])
    assert tree.orphan and tree.kin.name == "digits/2"


@pytest.mark.parametrize("family", [[_variant(2, 2)], [_variant(2, 3), TRAINED, _variant(3, 2)]])
def test_a_circle_is_refused(family: list[Kin]) -> None:
    """Nothing that was registered in order makes one: somebody wrote it."""
    with pytest.raises(InvalidInput, match="descends from itself"):
        grow(family)
