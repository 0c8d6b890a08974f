"""From training rows to the envelope that is kept with the version: least and greatest values.

Taken of the rows as the network gets them. Where it is not clear that features mean different
things, they share their bounds: those are wider, and flag too little rather than too much.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.cli.output import note
from steelyard.domain.envelope import (
    LARGEST_BYTES,
    SPAN,
    Envelope,
    InputBounds,
    Number,
    Slots,
    text_of,
)
from steelyard.domain.envelope_bounds import bounds_of, mask_outside
from steelyard.domain.model_version import Signature
from steelyard_workflows.data import Dataset

FEATURES = 512
"""Most features that have bounds of their own."""
WHOLE_NUMBERS = 16
"""Longest row of whole numbers that is taken for columns; a longer one is taken for a text."""
CHANNELS = 16
"""Most channels of an image."""
VALUES = 64
"""Most values of whole numbers that are kept one by one."""


def training_envelope(dataset: Dataset, signature: Signature) -> Envelope | None:
    """The envelope of a data set's training rows, and how many test rows are outside of it.

    None where the version has several inputs: a data set has one.
    """
    if len(signature.inputs) != 1:
        return None
    found = envelope_of_rows(signature.inputs[0].name, dataset.train.inputs, dataset.test.inputs)
    return told(found)


def told(envelope: Envelope | None) -> Envelope | None:
    """The same, after whoever waits was told how many honest rows it flags."""
    if envelope is not None and envelope.judged:
        outside = f"{envelope.outside} of {envelope.judged}"
        note(f"  {outside} test rows are outside the training envelope")
    return envelope


def envelope_of_rows(
    name: str, train: NDArray[Any], test: NDArray[Any] | None = None
) -> Envelope | None:
    """The envelope of the rows of one input, held against others; None: it would be too large."""
    rows = _numbers(train)
    for bounds in _ways(name, rows):
        envelope = Envelope((bounds,), len(rows))
        if test is not None:
            judged = _numbers(test)
            wrong = mask_outside(bounds_of(bounds, rows.dtype.name), judged)
            outside = 0 if wrong is None else int(wrong.reshape(len(judged), -1).any(1).sum())
            envelope = Envelope((bounds,), len(rows), len(judged), outside)
        if len(text_of(envelope)) <= LARGEST_BYTES:
            return envelope
    return None


def _numbers(rows: NDArray[Any]) -> NDArray[Any]:
    return rows.view(np.uint8) if rows.dtype.kind == "b" else rows


def _ways(name: str, rows: NDArray[Any]) -> Iterator[InputBounds]:
    """The bounds, the most telling first; the next ones take fewer bytes."""
    slots = _slots(rows)
    # A channel of bytes has them all; finding that out takes long.
    if rows.dtype.kind != "f" and slots != "channel":
        yield _bounds(name, rows, slots, values=True)
    yield _bounds(name, rows, slots, values=False)
    if slots != "all":
        yield _bounds(name, rows, "all", values=False)


def _slots(rows: NDArray[Any]) -> Slots:
    """What of a row has bounds of its own."""
    if rows.ndim == 2:
        most = FEATURES if rows.dtype.kind == "f" else WHOLE_NUMBERS
        return "feature" if rows.shape[1] <= most else "all"
    return "channel" if rows.ndim == 4 and rows.shape[1] <= CHANNELS else "all"


def _bounds(name: str, rows: NDArray[Any], slots: Slots, *, values: bool) -> InputBounds:
    others = {"feature": (0,), "channel": (0, 2, 3), "all": None}[slots]
    low, high = np.atleast_1d(rows.min(axis=others)), np.atleast_1d(rows.max(axis=others))
    few: list[tuple[int, ...]] = []
    if values:
        parts = [rows] if slots == "all" else list(np.moveaxis(rows, 1, 0))
        few = [_few(part) for part in parts]
    return InputBounds(
        name,
        slots,
        tuple(map(_exact, low)),
        tuple(map(_exact, high)),
        tuple(few if any(few) else ()),
    )


def _few(part: NDArray[Any]) -> tuple[int, ...]:
    """All values of a slot, if they are few and have gaps; else none."""
    least, greatest = int(part.min()), int(part.max())
    if greatest - least > SPAN:
        return ()
    found: list[int] = np.unique(part).tolist()
    has_gaps = len(found) <= greatest - least
    return tuple(found) if has_gaps and len(found) <= VALUES else ()


def _exact(value: Any) -> Number:
    """The shortest decimal that is this number in its own type."""
    return float(str(value)) if value.dtype.kind == "f" else int(value)
