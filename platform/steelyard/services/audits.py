"""From a prediction to everything behind it, and the check of every chain."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from steelyard.domain.allocation import round_half_even
from steelyard.domain.cost import HOUR_US, price_at
from steelyard.domain.errors import NotFound

if TYPE_CHECKING:
    from steelyard.adapters.sql.catalog import CatalogStore
    from steelyard.adapters.sql.ledger import LedgerStore
    from steelyard.adapters.sql.prediction_checking import Checked
    from steelyard.adapters.sql.predictions import PredictionStore
    from steelyard.adapters.sql.rollouts import RolloutStore
    from steelyard.ports.clock import Clock


@dataclass(frozen=True, slots=True)
class Trace:
    """One prediction: who answered, why that version, from which run, at what direct cost.

    ``cost_nano`` is busy time × price (usage basis, nano-USD), an estimate until shared per
    request; None without a price. ``batch_id`` is the ledger batch that charged its window.
    """

    prediction: dict[str, Any]
    version: dict[str, Any] | None
    parent: dict[str, Any] | None
    rollout: dict[str, Any] | None
    cost_nano: int | None
    batch_id: str | None


@dataclass(frozen=True, slots=True)
class Verification:
    """``broken`` names the chain, the first bad row and what is wrong; empty when all hold."""

    entries: int
    head: str
    broken: tuple[str, ...]


class Audits:
    """The use cases of answering for it."""

    def __init__(
        self, predictions: "PredictionStore", rollouts: "RolloutStore", catalog: "CatalogStore",
        ledger: "LedgerStore", clock: "Clock", price_sku: str,
    ) -> None:  # fmt: skip
        self._predictions = predictions
        self._rollouts = rollouts
        self._catalog = catalog
        self._ledger = ledger
        self._clock = clock
        self._price_sku = price_sku

    def trace(self, prediction_id: str) -> Trace:
        """Everything behind one prediction.

        Raises:
            NotFound: no such prediction arrived yet.
        """
        found = self._predictions.prediction(prediction_id)
        if found is None:
            raise NotFound(
                f"There is no prediction {prediction_id!r}.",
                "Records arrive a few seconds after the answer and go after their model's "
                "retention_days; check the id and try again.",
            )
        versions = self._catalog.versions(found["model"])
        version = _pick(versions, found["version"])
        intent = self._rollouts.intent(found["model"], found["generation"], found["version"])
        at_us = found["received_us"]
        price = price_at(self._catalog.prices(), self._price_sku, at_us, self._clock.now_us())
        cost = (
            round_half_even(Fraction(found["busy_ns"] * price.price_nano, HOUR_US * 1000))
            if price
            else None
        )
        return Trace(
            prediction=found, version=version,
            parent=_pick(versions, version["parent"]) if version else None, rollout=intent,
            cost_nano=cost, batch_id=self._ledger.batch_of_window(found["resource_id"], at_us),
        )  # fmt: skip

    def verify(self) -> Verification:
        """Walk every chain: entries, rollout events, promotions, drifts, deletions."""
        broken = []
        entry = self._ledger.first_break()
        if entry:
            broken.append(f"entry {entry.seq}: {entry.what}")
        other = self._rollouts.first_break()
        if other:
            broken.append(f"{other[0]} {other[1].seq}: {other[1].what}")
        head = self._ledger.head()
        return Verification(head.seq if head else 0, head.hash if head else "", tuple(broken))

    def verify_predictions(
        self, prediction_id: str | None = None, head: str | None = None
    ) -> "Checked":
        """Recompute the segments of predictions from their rows, all or that of one prediction.

        ``head`` is one that was noted before, as ``SEGMENT:HASH``: it has to be in the chain.

        Raises:
            NotFound: no such prediction arrived yet.
        """
        segment = None
        if prediction_id is not None:
            segment = self.trace(prediction_id).prediction["segment"]
        found = self._predictions.check(segment)
        if head is None:
            return found
        number, _, noted = head.partition(":")
        if noted and self._predictions.hash_of_segment(number) == noted:
            return found
        return replace(found, broken=(f"the head {head} is not in the chain", *found.broken))


def _pick(versions: Sequence[dict[str, Any]], number: int | None) -> dict[str, Any] | None:
    return next((v for v in versions if v["version"] == number), None)
