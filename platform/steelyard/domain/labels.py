"""True answers that come later: of a prediction by its id, or of a unit's predictions."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from steelyard.domain.errors import Fault, InvalidInput

MOST_LABELS = 10_000
"""Of one JSON document."""
MOST_ROWS = 1_000_000
"""Of one table: its labels are held in memory until all are known to be good."""
LARGEST_CLASS = 2**31 - 1
SHOWN = 20
"""Faults that are named; a file may have thousands of the same."""


@dataclass(frozen=True, slots=True)
class Label:
    """The true class of each row of one prediction, or of all predictions of a unit."""

    classes: tuple[int, ...]
    prediction_id: str | None = None
    unit: str | None = None

    @property
    def unit_sha256(self) -> str | None:
        """How predictions name the unit."""
        return None if self.unit is None else hashlib.sha256(self.unit.encode()).hexdigest()


def labels_of(rows: Iterable[Mapping[str, Any]]) -> list[Label]:
    """The labels in rows of a table: ``prediction_id`` or ``unit``, and ``class`` or ``classes``.

    ``classes`` may be a list or its JSON.

    Raises:
        InvalidInput: a row says neither whom it is of nor what is true, two rows contradict
            each other, or there are more than a million; the first 20 faults are named with their
            row.
    """
    faults: list[Fault] = []
    found: dict[tuple[str | None, str | None], Label] = {}
    for number, row in enumerate(rows, 1):
        if number > MOST_ROWS:
            fault = Fault("rows", f"are more than {MOST_ROWS}")
            raise InvalidInput(str(fault), (fault,), "Bring them in several tables.")
        label = _label(row, f"row {number}", faults)
        if label is None:
            continue
        key = (label.prediction_id, label.unit)
        if found.setdefault(key, label) != label:
            whose = label.prediction_id or label.unit
            faults.append(Fault(f"row {number}", f"contradicts an earlier row of {whose}"))
    if faults:
        more = len(faults) - SHOWN
        hint = f"{more} more faults are not shown. " if more > 0 else ""
        raise InvalidInput(
            "The labels cannot be read.", tuple(faults[:SHOWN]),
            f"{hint}Columns: prediction_id or unit, and class or classes.",
        )  # fmt: skip
    return list(found.values())


def _label(row: Mapping[str, Any], place: str, faults: list[Fault]) -> Label | None:
    prediction_id, unit = (_text(row.get(name)) for name in ("prediction_id", "unit"))
    if (prediction_id is None) == (unit is None):
        faults.append(Fault(place, "has one of prediction_id and unit"))
        return None
    classes = _classes(row)
    if classes is None:
        faults.append(Fault(place, f"has no class from 0 to {LARGEST_CLASS}"))
        return None
    return Label(classes, prediction_id, unit)


def _text(value: object) -> str | None:
    text = "" if value is None else str(value)
    return text if 0 < len(text) <= 256 else None


def _classes(row: Mapping[str, Any]) -> tuple[int, ...] | None:
    value = row.get("classes")
    if isinstance(value, str) and value:
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if value is None or value == "":
        value = [row.get("class")]
    if not isinstance(value, list) or not value:
        return None
    numbers = tuple(_class(one) for one in value)
    return None if None in numbers else tuple(n for n in numbers if n is not None)


def _class(value: object) -> int | None:
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit() and len(text) < 11):
        return None
    return int(text) if int(text) <= LARGEST_CLASS else None
