"""Rows that nothing can be learned from are refused before anything is started."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from steelyard.domain.errors import InvalidInput
from steelyard_workflows.data import Dataset, Split, check, divide, load
from steelyard_workflows.recipes.digits_cnn import digits_cnn
from steelyard_workflows.trial import classes_of
from steelyard_workflows.workflow import Workflow

Change = Callable[[Split], Split]


def good() -> Dataset:
    """Thirty rows of four figures and three classes, ten for each purpose."""
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(30, 4)).astype(np.float32)
    return divide(inputs, np.arange(30, dtype=np.int64) % 3, np.arange(30) // 10)


def with_value(name: str, row: int, value: float, dtype: Any = None) -> Change:
    """A split whose inputs or labels hold another value."""

    def change(split: Split) -> Split:
        values: NDArray[Any] = getattr(split, name).astype(dtype or getattr(split, name).dtype)
        values[row] = value
        return replace(split, **{name: values})

    return change


def taking(rows: slice, *names: str) -> Change:
    """A split that has only some rows, of all arrays or of those named."""
    chosen = names or ("inputs", "labels", "rows")
    return lambda split: replace(split, **{name: getattr(split, name)[rows] for name in chosen})


def as_tensor(split: Split) -> Split:
    """A split with torch's rows instead of numpy's."""
    inputs: Any = torch.from_numpy(split.inputs)
    return replace(split, inputs=inputs)


FAULTS: list[tuple[str, Change, str]] = [
    ("train", taking(slice(0)), "train: is empty"),
    ("validation", taking(slice(0)), "validation: is empty"),
    ("test", taking(slice(5), "labels"), r"test: .* different lengths: \[5, 10\]"),
    ("train", with_value("inputs", 7, np.nan), "train.inputs: hold NaN or infinity in row 7"),
    ("test", with_value("inputs", slice(2, 5), np.inf), "3 rows, the first is 2"),  # type: ignore[arg-type]
    ("train", with_value("labels", 4, np.nan, float), "train.labels: hold NaN .* in row 4"),
    ("train", with_value("labels", 4, 1, np.int32), "must be int64, found int32"),
    ("test", with_value("labels", 3, -1), "classes from 0, found -1 in row 3"),
    ("train", with_value("inputs", 0, 0, object), "must be one of .* found object"),
    ("test", as_tensor, "test.inputs: must be a numpy array, found Tensor"),
    ("validation", with_value("inputs", 0, 0, np.float64), "are float64.*train float32"),
]


def test_good_rows_pass() -> None:
    """No fault, three classes, and the network's mode is what it was."""
    network = nn.Linear(4, 3).train()
    check(good())
    assert classes_of(network, good()) == 3 and network.training


@pytest.mark.parametrize(("part", "change", "expected"), FAULTS)
def test_bad_rows_are_refused_by_name(part: str, change: Change, expected: str) -> None:
    """Which split, which array, which row."""
    dataset = good()
    bad = replace(dataset, **{part: change(dataset.splits[part])})
    with pytest.raises(InvalidInput) as caught:
        check(bad)
    assert re.search(expected, " ".join(map(str, caught.value.faults)))


def test_all_faults_are_told_at_once() -> None:
    """One round is enough to mend them."""
    dataset = good()
    bad = replace(
        dataset,
        train=with_value("inputs", 1, np.nan)(dataset.train),
        test=taking(slice(0))(dataset.test),
    )
    with pytest.raises(InvalidInput) as caught:
        check(bad)
    assert [fault.where for fault in caught.value.faults] == ["train.inputs", "test"]


def missing(_: Workflow) -> Dataset:
    """Data in a file that nobody has."""
    np.load("/nowhere/rows.npy")
    raise AssertionError


def test_data_that_is_missing_is_named() -> None:
    """The recipe and the file, not a traceback."""
    with pytest.raises(InvalidInput, match=r"digits_cnn: cannot be read: .*rows\.npy"):
        load(missing, digits_cnn().workflow)


def test_data_of_another_kind_is_named() -> None:
    """A recipe of the user's own that returns arrays."""
    wrong: Any = lambda _: (np.zeros(3), np.zeros(3))  # noqa: E731
    with pytest.raises(InvalidInput, match="must be a Dataset, found tuple"):
        load(wrong, digits_cnn().workflow)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (nn.Linear(4, 2), r"has 2 classes, 0\.\.1; train.labels go up to 2"),
        (nn.Linear(5, 3), r"does not take torch.float32 rows of shape \[4\]"),
        (nn.Flatten(0), r"gives logits \[8\] for two rows, labels need \[2, classes\]"),
        (nn.LSTM(4, 3), "gives a tuple, not a tensor"),
    ],
)
def test_a_network_that_does_not_fit_its_data_is_refused(network: nn.Module, expected: str) -> None:
    """Labels outside the classes, inputs it does not take, logits of another shape."""
    with pytest.raises(InvalidInput, match=expected):
        classes_of(network, good())


def test_two_trial_rows_leave_no_trace() -> None:
    """Weights and statistics are what they were."""
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    classes_of(network, good())
    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())
