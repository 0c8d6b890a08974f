import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from steelyard.domain.envelope import LARGEST_BYTES, Envelope, InputBounds, text_of
from steelyard.domain.model_version import Signature, TensorSpec
from steelyard_workflows.data import Dataset, Split
from steelyard_workflows.export import Artifact
from steelyard_workflows.training_envelope import envelope_of_rows, training_envelope

SIGNATURE = Signature((TensorSpec("input", "FP32", (-1,)),), ())


def split(rows: NDArray[Any]) -> Split:
    """Rows that all have the same label."""
    return Split(rows, np.zeros(len(rows), np.int64), np.arange(len(rows), dtype=np.int64))


def found(train: NDArray[Any], test: NDArray[Any] | None = None) -> Envelope:
    """The envelope of training rows, judged by the test rows."""
    dataset = Dataset(split(train), split(train), split(train if test is None else test))
    made = training_envelope(dataset, SIGNATURE)
    assert made is not None
    return made


def test_a_table_has_bounds_for_each_feature() -> None:
    """The shortest decimals that are exact in the rows' type, and how many test rows are out."""
    rows = np.array([[0.1, -2], [0.3, 5], [0.2, 0]], np.float32)
    test = np.array([[0.1, 5], [0.3001, 0], [0, 9]], np.float32)
    bounds = InputBounds("input", "feature", (0.1, -2.0), (0.3, 5.0))
    assert found(rows, test) == Envelope((bounds,), rows=3, judged=3, outside=2)


def test_every_training_row_is_inside_its_own_envelope() -> None:
    """In every type that a network takes; also where a decimal is not the number itself."""
    draw = np.random.default_rng(3)
    for dtype in ("float16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool"):
        for shape in ((40,), (40, 5), (40, 30), (40, 3, 2), (40, 3, 4, 4)):
            assert found((draw.normal(0, 30, shape)).astype(dtype)).outside == 0


def test_codes_are_listed_where_they_have_gaps() -> None:
    """A column of 1, 4, 9 and one of 0 to 2; a third has too far apart values for a list."""
    rows = np.array([[1, 0, 0], [9, 2, 10**6], [4, 1, 5]])
    assert found(rows).inputs == (
        InputBounds("input", "feature", (1, 0, 0), (9, 2, 10**6), ((1, 4, 9), (), ())),
    )


def test_a_text_has_the_bounds_of_its_words() -> None:
    """Places of a text mean the same, so they share their bounds."""
    words = np.arange(64 * 100).reshape(100, 64)
    assert found(words).inputs == (InputBounds("input", "all", (0,), (6399,)),)


def test_an_image_has_bounds_for_each_channel(digits: Dataset, exported: Artifact) -> None:
    """The real digits: one channel, from 0 to 1."""
    envelope = training_envelope(digits, exported.signature)
    name = exported.signature.inputs[0].name
    assert envelope is not None
    assert envelope.inputs == (InputBounds(name, "channel", (0.0,), (1.0,)),)
    assert (envelope.rows, envelope.judged, envelope.outside) == (
        len(digits.train), len(digits.test), 0,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_an_envelope_stays_small(dtype: str) -> None:
    """However wide the rows are and whatever is in them."""
    draw = np.random.default_rng(4)
    for width in (16, 512, 513, 20_000):
        rows = (draw.normal(size=(70, width)) * 10.0 ** draw.integers(-300, 2, width)).astype(dtype)
        assert len(text_of(found(rows))) <= LARGEST_BYTES
    many = draw.integers(-500, 500, (64, 16)) * 1
    assert len(text_of(found(many))) <= LARGEST_BYTES


def test_a_version_of_several_inputs_has_none() -> None:
    """A data set has one input, and nobody knows which it would be."""
    two = Signature((*SIGNATURE.inputs, TensorSpec("mask", "INT64", (-1, 4))), ())
    rows = split(np.zeros((3, 4), np.float32))
    assert training_envelope(Dataset(rows, rows, rows), two) is None


def test_rows_that_nobody_judges_by_leave_open_how_many_are_outside() -> None:
    """A plain loop may give no test rows: unknown is not 0."""
    found = envelope_of_rows("x", np.array([[1.0, 5.0], [2.0, 4.0]], np.float32))
    assert found == Envelope((InputBounds("x", "feature", (1.0, 4.0), (2.0, 5.0)),), 2)
    assert found is not None and found.outside is None


def test_no_row_can_be_read_from_an_envelope() -> None:
    """It holds bounds alone: as many numbers for a thousand rows as for ten."""
    draw = np.random.default_rng(5)
    few, many = (json.loads(text_of(found(draw.normal(size=(n, 8))))) for n in (10, 1_000))
    assert all(len(one["inputs"][0]["low"]) == 8 for one in (few, many))
