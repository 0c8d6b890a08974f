"""Labels as people bring them: by prediction id, or by the unit that was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.labels import Label

if TYPE_CHECKING:
    from steelyard.adapters.sql.labels import LabelStore
    from steelyard.ports.clock import Clock


@dataclass(frozen=True, slots=True)
class Added:
    """How many labels are new, and how many predictions had one already."""

    new: int
    known: int


class Labels:
    """The use case of saying later what was true; repeating it changes nothing."""

    def __init__(self, store: "LabelStore", clock: "Clock") -> None:
        self._store = store
        self._clock = clock

    def add(self, labels: Sequence[Label], source: str, model: str | None = None) -> Added:
        """Store labels; those of units go to all predictions that ``model`` made for them.

        Raises:
            InvalidInput: a label names a unit and no model is said.
        """
        units = [label for label in labels if label.unit is not None]
        rows = [(one.prediction_id, one.classes) for one in labels if one.prediction_id is not None]
        if units and model is None:
            fault = Fault("model", "labels of units are of one model's predictions; say which")
            raise InvalidInput(str(fault), (fault,))
        if model is not None:
            rows += self._store.of_units(model, units)
        return Added(*self._store.add(rows, source, self._clock.now_us()))
