"""What a version stands on: its distinct ancestors, each counted once.

A version owns what its own making cost. "Upstream" is the sum over the set of its ancestors,
never over paths: a teacher that two students share was trained once.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from steelyard.domain.errors import InvalidInput

Parents = Mapping[str, Collection[str]]


@dataclass(frozen=True, slots=True)
class Upstream:
    """A version's own amount and its ancestors', in one ledger unit.

    ``upstream`` sums what is known; ``unknown`` names the ancestors without a figure, so with
    any of them it is a lower bound.
    """

    own: int | None
    upstream: int
    ancestors: frozenset[str]
    unknown: frozenset[str]

    @property
    def total(self) -> int | None:
        """Own and upstream; None when a part of it is unknown."""
        return None if self.own is None or self.unknown else self.own + self.upstream


def ancestors(parents: Parents, version: str) -> frozenset[str]:
    """Everything that ``version`` descends from, each once, itself left out.

    >>> sorted(ancestors({"E": ["S1", "S2"], "S1": ["T"], "S2": ["T"]}, "E"))
    ['S1', 'S2', 'T']

    Raises:
        InvalidInput: a version descends from itself.
    """
    found: set[str] = set()
    open_ends = list(parents.get(version, ()))
    while open_ends:
        one = open_ends.pop()
        if one not in found:
            found.add(one)
            open_ends.extend(parents.get(one, ()))
    try:
        TopologicalSorter({one: parents.get(one, ()) for one in found | {version}}).prepare()
    except CycleError as error:
        circle = " from ".join(reversed(error.args[1]))
        raise InvalidInput(
            f"A version descends from itself: {circle}.", hint="Correct the lineage of its parents."
        ) from error
    return frozenset(found)


def upstream(own: Mapping[str, int | None], parents: Parents, version: str) -> Upstream:
    """What ``version`` took to make, and what everything it descends from took.

    ``own`` holds the amount of each version's own activities; missing or None is unknown.
    """
    above = ancestors(parents, version)
    known = {one: amount for one in above if (amount := own.get(one)) is not None}
    return Upstream(own.get(version), sum(known.values()), above, above - known.keys())
