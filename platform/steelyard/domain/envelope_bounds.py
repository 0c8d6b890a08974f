"""Bounds of an input as arrays, and which values of some rows lie outside of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.domain.envelope import InputBounds, Number, Slots

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Few:
    """Slots with few values: ``answers`` says of each whole number between the bounds if it is one.

    A slot's answers begin at ``first``, with that for ``low``. ``counts`` is 1; 0 for a slot whose
    every value is inside, and which has one answer.
    """

    answers: NDArray[np.bool_]
    low: NDArray[np.int64]
    first: NDArray[np.int64]
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bounds:
    """One input's bounds; ``low`` and ``high`` have its type and spread over its rows."""

    name: str
    slots: Slots
    low: Array
    high: Array
    values: tuple[tuple[int, ...], ...]
    few: Few | None


def bounds_of(one: InputBounds, datatype: str) -> Bounds:
    """The bounds in numpy's ``datatype``, that of the arrays that they are compared with."""
    low, high = (_spread(part, datatype, one.slots) for part in (one.low, one.high))
    few = _few(one) if any(one.values) else None
    return Bounds(one.name, one.slots, low, high, one.values, few)


def fits(one: InputBounds, shape: Sequence[int]) -> bool:
    """Whether a tensor of this shape, -1 where it is open, has the slots that the bounds have."""
    if one.slots == "all":
        return True
    rank = 2 if one.slots == "feature" else 4
    return len(shape) == rank and shape[1] == len(one.low)


def mask_outside(bounds: Bounds, values: Array) -> NDArray[np.bool_] | None:
    """Which values are outside; None: not one. Made for few rows: it takes a few microseconds."""
    wrong: NDArray[np.bool_] = (values < bounds.low) | (values > bounds.high)
    few = bounds.few
    if few is not None:
        # Those beyond the bounds are wrong already; clipped, they find an answer to read.
        near = np.clip(values, bounds.low, bounds.high) if np.count_nonzero(wrong) else values
        at = (near.astype(np.int64, copy=False) - few.low) * few.counts + few.first
        wrong |= ~few.answers[at]
    return wrong if np.count_nonzero(wrong) else None


def wrong_slots(bounds: Bounds, wrong: NDArray[np.bool_]) -> list[int]:
    """The slots with values outside, in order; of an input in one slot, 0."""
    if bounds.slots == "all":
        return [0]
    others = (0,) if bounds.slots == "feature" else (0, 2, 3)
    found: list[int] = np.flatnonzero(wrong.any(axis=others)).tolist()
    return found


def _spread(numbers: Sequence[Number], datatype: str, slots: Slots) -> Array:
    array = np.array(numbers, datatype)
    if slots == "all":
        return array.reshape(())
    return array if slots == "feature" else array.reshape(-1, 1, 1)


def _few(one: InputBounds) -> Few:
    answers: list[bool] = []
    first: list[int] = []
    for low, high, values in zip(one.low, one.high, one.values, strict=True):
        first.append(len(answers))
        known = set(values)
        every = range(int(low), int(high) + 1)
        answers += [number in known for number in every] if known else [True]
    counts = [int(bool(values)) for values in one.values]
    return Few(
        np.array(answers, np.bool_),
        _spread(one.low, "int64", one.slots),
        _spread(first, "int64", one.slots),
        _spread(counts, "int64", one.slots),
    )
