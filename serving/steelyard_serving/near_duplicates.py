"""Rows that a key has asked nearly the same before: how a model is searched for its boundary.

A sign, not a wall: who spreads his questions over keys, or moves each far enough, is not seen.
Each replica remembers for itself, so with several of them a part is missed.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

import numpy as np

from steelyard.domain.envelope_bounds import Bounds
from steelyard_serving.protocols.tensors import Array

CELLS = 8
"""Into how many parts a feature's range in training is cut; a row is known by its cells."""
ROWS = 1_024
"""Rows of a key that are remembered, the latest."""
KEYS = 64
"""Keys whose rows are remembered, those that asked last: with the rows, about 8 MB at most."""
LOOKED_AT = 64
"""Most rows of a request that are looked at."""
_KEPT = {
    size: (np.dtype(f"i{size}"), np.array(bits, f"i{size}"))
    for size, bits in ((2, 7), (4, 20), (8, 49))
}
"""By a float's bytes: as what it is read, and how many bits go: but three of the significand."""
_Rounding = Callable[[Array], Array]


class NearDuplicates:
    """What keys have asked lately, as digests of rounded rows."""

    def __init__(self, bounds: Sequence[Bounds]) -> None:
        self._rounding = {one.name: _in_cells(one) for one in bounds if one.low.dtype.kind == "f"}
        self._known: OrderedDict[str, dict[int, None]] = OrderedDict()

    def count(self, key_id: str, inputs: Mapping[str, Array], items: int) -> int:
        """How many of a request's rows are near to another of it, or to one asked before."""
        known = self._of(key_id)
        found = 0
        for row in self._digests(inputs, items):
            if known.pop(row, 0) is None:
                found += 1
            known[row] = None
        while len(known) > ROWS:
            del known[next(iter(known))]
        return found

    def _of(self, key_id: str) -> dict[int, None]:
        known = self._known.get(key_id)
        if known is None:
            if len(self._known) >= KEYS:
                self._known.popitem(last=False)
            known = self._known[key_id] = {}
        self._known.move_to_end(key_id)
        return known

    def _digests(self, inputs: Mapping[str, Array], items: int) -> Iterable[int]:
        """One a row; it is salted by the process, and no use outside of it."""
        if items == 1 or any(not one.ndim or len(one) != items for one in inputs.values()):
            return (hash(tuple([self._cells(name, one) for name, one in inputs.items()])),)
        columns = [self._rows(name, one[:LOOKED_AT]) for name, one in inputs.items()]
        return map(hash, zip(*columns, strict=True))

    def _rows(self, name: str, value: Array) -> Iterable[Hashable]:
        if value.dtype.kind == "O":
            return [tuple(row) for row in value.reshape(len(value), -1).tolist()]
        data = self._cells(name, value)
        size = len(data) // len(value)
        return [data[start : start + size] for start in range(0, len(data), size)]

    def _cells(self, name: str, value: Array) -> bytes | tuple[object, ...]:
        """What an input is known by: the cells of its numbers, or its texts."""
        if value.dtype.kind == "O":
            return tuple(value.ravel().tolist())
        return self._rounding.get(name, _rounded)(value).tobytes()


def _rounded(value: Array) -> Array:
    """Floats to about an eighth of themselves, where nothing is known of their range."""
    if value.dtype.kind != "f":
        return value
    whole, dropped = _KEPT[value.dtype.itemsize]
    kept: Array = np.ascontiguousarray(value).view(whole) >> dropped
    return kept


def _in_cells(bounds: Bounds) -> _Rounding:
    low, high = bounds.low.astype(np.float64), bounds.high.astype(np.float64)
    # Values and ranges may be so far apart that a cell's number is infinite: that is one, too.
    with np.errstate(all="ignore"):
        per_unit = CELLS / np.where(high > low, high - low, 1.0)
        low32, per_unit32 = low.astype(np.float32), per_unit.astype(np.float32)

    def in_cells(value: Array) -> Array:
        with np.errstate(all="ignore"):
            cells: Array = np.floor((value - low32) * per_unit32)
        return cells

    return in_cells
