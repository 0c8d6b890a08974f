"""The family of a model: the ledger's copy of every version, beside what the registry still has."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from steelyard.domain.errors import NotFound
from steelyard.domain.lineage_tree import Branch, Kin, around, grow
from steelyard.domain.model_version import ModelVersion

if TYPE_CHECKING:
    from steelyard.adapters.sql.catalog import CatalogStore
    from steelyard.adapters.sql.evidence import EvidenceStore
    from steelyard.ports.registry import Registry


class Lineages:
    """The use case of seeing what descended from what."""

    def __init__(
        self, registry: "Registry", catalog: "CatalogStore", evidence: "EvidenceStore"
    ) -> None:
        self._registry = registry
        self._catalog = catalog
        self._evidence = evidence

    def of(self, model: str, version: int | None = None) -> tuple[Branch, ...]:
        """The trees of a model, or the part of them that one version belongs to.

        A version that was deleted from the registry stays, as long as the ledger knew it.

        Raises:
            NotFound: neither knows the model, or the version.
            InvalidInput: a version descends from itself.
        """
        there = {v.version: v for v in self._registered(model)}
        copies = {int(row["version"]): row for row in self._catalog.versions(model)}
        if not there and not copies:
            known = ", ".join(self._registry.models()) or "none yet"
            raise NotFound(f"There is no model {model!r}.", f"Registered: {known}.")
        records = {r.version: r.sha256 for r in self._evidence.records(model)}
        trees = grow(
            _kin(there.get(n), copies.get(n), records.get(n)) for n in there.keys() | copies.keys()
        )
        found = trees if version is None else around(trees, version)
        if not found:
            numbers = ", ".join(map(str, sorted(there.keys() | copies.keys())))
            raise NotFound(f"{model} has no version {version}.", f"It has or had: {numbers}.")
        return found

    def _registered(self, model: str) -> Iterable[ModelVersion]:
        try:
            return self._registry.versions(model)
        except NotFound:  # deleted with all its versions
            return ()


def _kin(there: ModelVersion | None, copy: Mapping[str, Any] | None, record: str | None) -> Kin:
    """What the registry says of a version; what the ledger copied of one that is gone from it."""
    if there is not None:
        return Kin(
            there.model, there.version, there.variant, there.relation, there.run_id, there.sha256,
            there.parent, there.recipe_sha256, record, there.aliases,
        )  # fmt: skip
    assert copy is not None
    names = ("model", "version", "variant", "relation", "run_id", "sha256", "parent")
    return Kin(**{name: copy[name] for name in names}, evidence_sha256=record, deleted=True)
