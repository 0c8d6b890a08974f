from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from steelyard.domain.api_key import ApiKey, Told
from steelyard.domain.model_version import Signature, TensorSpec
from steelyard_serving.privacy import cut
from steelyard_serving.protocols.tensors import Array

SIGNATURE = Signature((), (TensorSpec("scores", "FP32", (-1, 4)),))


def key(told: Told, top: int = 2) -> ApiKey:
    """A key that is told so much."""
    return ApiKey("0123456789", "shop", "d" * 64, 1, told=told, top=top)


def told(whom: ApiKey, rows: Any, dtype: str = "float32") -> Array:
    """What of a version's scores is told."""
    return cut(whom, {"scores": np.array(rows, dtype)}, SIGNATURE)["scores"]


def test_a_label_is_told_without_its_score() -> None:
    """One at the greatest score of each row, the first of several; name, type and shape stay."""
    found = told(key("label"), [[0.1, 0.6, 0.2, 0.1], [3, 3, -5, 0]])
    assert found.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]
    assert found.dtype == np.float32


def test_the_best_scores_are_told_as_they_are() -> None:
    """The others are 0 among probabilities."""
    found = told(key("top"), [[0.125, 0.5, 0.25, 0.125]])
    assert found.tolist() == [[0, 0.5, 0.25, 0]]


def test_what_is_not_told_is_never_above_what_is() -> None:
    """Among logits 0 may be the greatest: there it is the least number that there is."""
    least = float(np.finfo(np.float32).min)
    assert told(key("top"), [[-1, -2, -3, -4]]).tolist() == [[-1, -2, least, least]]


def test_more_scores_than_there_are_is_all() -> None:
    """A key for the best five of four classes."""
    assert told(key("top", 5), [[0.5, 0.25, 0.125, 0.125]]).tolist() == [[0.5, 0.25, 0.125, 0.125]]


@pytest.mark.parametrize(
    ("value", "dtype"), [([[3], [4]], "int64"), ([[7.5], [8.5]], "float32"), ([1.5, 2], "float32")]
)
def test_an_answer_that_is_no_classifiers_stays(value: Any, dtype: str) -> None:
    """Whole numbers, and one number a row: that is the answer, not a score beside others."""
    assert told(key("label"), value, dtype).tolist() == value


def test_words_have_their_scores_last_and_pixels_second() -> None:
    """[rows, words, classes] is cut along the last, [rows, classes, height, width] the second."""
    words = np.array([[[1, 2], [4, 3]]], np.float32)
    assert told(key("label"), words).tolist() == [[[0, 1], [1, 0]]]
    pixels = np.array([[[[1, 4]], [[2, 3]]]], np.float32)
    assert told(key("label"), pixels).tolist() == [[[[0, 1]], [[1, 0]]]]


SCORES = arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(2, 6)),
    elements=st.floats(-100, 100, width=32),
)  # fmt: skip


@given(SCORES, st.integers(1, 6), st.sampled_from(["label", "top"]))
def test_whoever_is_told_less_decides_the_same(rows: Array, top: int, how: Told) -> None:
    """The greatest score is at the same place, and the outputs of the model are not changed."""
    before = rows.copy()
    found = told(key(how, top), rows)
    assert found.argmax(axis=1).tolist() == rows.argmax(axis=1).tolist()
    assert np.array_equal(rows, before) and found.shape == rows.shape


@given(SCORES, st.integers(1, 6))
def test_no_more_scores_than_the_key_says_are_told(rows: Array, top: int) -> None:
    """Whatever the other scores are, the answer is the same."""
    best = np.argsort(-rows, axis=1, kind="stable")[:, :top]
    changed = np.where(rows < 0, -102.0, 0).astype(np.float32)
    np.put_along_axis(changed, best, np.take_along_axis(rows, best, 1), 1)
    assert told(key("top", top), changed).tolist() == told(key("top", top), rows).tolist()
