"""What descended from what: a model's versions as a tree, deleted ones and orphans included. Pure.

A parent is registered before its variants, so a circle can only be forged; it is refused.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from steelyard.domain.lineage import ancestors

SHORT = 12
"""Digits of a digest that people are shown."""


@dataclass(frozen=True, slots=True)
class Kin:
    """One version as its family sees it. Digests are whole; None is unknown.

    ``deleted``: the registry does not have it any more, only the ledger's copy does.
    """

    model: str
    version: int
    variant: str
    relation: str
    run_id: str
    sha256: str
    parent: int | None = None
    recipe_sha256: str | None = None
    evidence_sha256: str | None = None
    aliases: tuple[str, ...] = ()
    deleted: bool = False

    @property
    def name(self) -> str:
        """``digits/2``."""
        return f"{self.model}/{self.version}"


@dataclass(frozen=True, slots=True)
class Branch:
    """A version and what was made of it, oldest first.

    ``orphan``: it has a parent that was deleted, or that nobody knows.
    """

    kin: Kin
    children: tuple["Branch", ...] = ()
    orphan: bool = False


def grow(family: Iterable[Kin]) -> tuple[Branch, ...]:
    """The trees of a model's versions; a version whose parent nobody knows starts one of its own.

    Raises:
        InvalidInput: a version descends from itself.
    """
    known = {one.version: one for one in sorted(family, key=lambda k: k.version)}
    parents = {str(n): [str(k.parent)] if k.parent in known else [] for n, k in known.items()}
    for number in parents:
        ancestors(parents, number)
    roots = [k for k in known.values() if k.parent not in known]
    return tuple(_branch(root, known.values()) for root in roots)


def _branch(kin: Kin, family: Iterable[Kin], parent: Kin | None = None) -> Branch:
    below = [one for one in family if one.parent == kin.version]
    orphan = kin.parent is not None and (parent is None or parent.deleted)
    return Branch(kin, tuple(_branch(one, family, kin) for one in below), orphan)


def around(trees: Sequence[Branch], version: int) -> tuple[Branch, ...]:
    """One version with all that was made of it, below its ancestors alone; empty without it."""
    return tuple(found for tree in trees if (found := _around(tree, version)) is not None)


def _around(branch: Branch, version: int) -> Branch | None:
    if branch.kin.version == version:
        return branch
    below = around(branch.children, version)
    return replace(branch, children=below) if below else None


def branches(trees: Sequence[Branch]) -> Iterator[Branch]:
    """Every branch, each after its parent."""
    for tree in trees:
        yield tree
        yield from branches(tree.children)


def label(branch: Branch) -> str:
    """One line about a version, for people.

    >>> label(Branch(Kin("digits", 2, "fp16", "quantized", "run", "ab" * 32, 1), orphan=True))
    'digits/2 fp16, quantized; file abababababab; orphan: its parent digits/1 is gone'
    """
    kin = branch.kin
    said = [f"{kin.name} {kin.variant}, {kin.relation}", f"file {kin.sha256[:SHORT]}"]
    for what, found in (("recipe", kin.recipe_sha256), ("evidence", kin.evidence_sha256)):
        if found is not None:
            said.append(f"{what} {found[:SHORT]}")
    said += [f"@{alias}" for alias in kin.aliases]
    if kin.deleted:
        said.append("deleted from the registry")
    if branch.orphan:
        said.append(f"orphan: its parent {kin.model}/{kin.parent} is gone")
    return "; ".join(said)
