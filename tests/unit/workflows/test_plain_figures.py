"""Which reported values are numbers to track, under which name, at which step, as which work."""

import math

import numpy as np
import pytest
import torch

from steelyard_workflows.user_code import figures


def test_numbers_of_python_numpy_and_torch_are_tracked() -> None:
    """Whatever holds one number is one; whole numbers stay exact."""
    found, faults = figures.numbers({
        "loss": 0.25, "epoch": 3, "converged": True, "numpy": np.float32(0.5),
        "tensor": torch.tensor(1.5), "flop": 2**70 + 1, "bad": math.nan,
    })  # fmt: skip
    assert not faults
    assert math.isnan(found.pop("bad"))
    assert found == {"loss": 0.25, "epoch": 3, "converged": 1, "numpy": 0.5, "tensor": 1.5,
                     "flop": 2**70 + 1}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("loss", "0.25", "loss: must be one number, found str: '0.25'"),
        ("loss", None, "loss: must be one number, found NoneType"),
        ("loss", torch.zeros(2), "loss: must be one number, found Tensor"),
        ("loss", {"train": 1.0}, "loss: must be one number, found dict"),
        ("k" * 101, 1.0, "is no name, or one of more than 100 characters"),
        ("../secrets", 1.0, "may have letters, digits"),
        ("a//b", 1.0, "may have letters, digits"),
        ("ä", 1.0, "may have letters, digits"),
    ],
)
def test_what_cannot_be_tracked_is_named(key: str, value: object, expected: str) -> None:
    """The other figures of the report are found all the same."""
    found, (fault,) = figures.numbers({key: value, "good": 1.0})
    assert expected in str(fault)
    assert found == {"good": 1.0}


def test_a_report_of_too_many_names_is_cut() -> None:
    """A tracker is no place for a network's weights."""
    found, faults = figures.numbers({f"m{n}": n for n in range(102)})
    assert len(found) == 100
    assert [fault.where for fault in faults] == ["m100", "m101"]


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ({"step": 40, "epoch": 2}, 40), ({"epoch": 2.0, "loss": 1}, 2), ({"epoch": 2.5}, 17),
        ({"step": -1}, 17), ({}, 17), ({"epoch": math.inf}, 17),
    ],
)  # fmt: skip
def test_a_report_stands_at_its_step_or_epoch_else_at_its_number(
    values: dict[str, float], step: int
) -> None:
    """A loop that counts is followed; one that does not is counted."""
    assert figures.step_of(values, 17) == step


def test_every_worker_is_tracked_the_first_under_its_own_names() -> None:
    """A script of one worker looks as it does without Ray."""
    found, faults = figures.joined([{"loss": 1.0}, {"loss": 3.0, "note": "slow"}])
    assert found == {"loss": 1.0, "rank_1/loss": 3.0}
    assert [fault.where for fault in faults] == ["rank_1/note"]


@pytest.mark.parametrize(
    ("reports", "work"),
    [
        ([{"flop": 2**60, "items": 64}, {"flop": 2**60, "items": 32}], (96, 2**61)),
        ([{"flop": 10}, {"loss": 1.0}], (0, None)),
        ([{"flop": 1.5, "items": -3}], (0, None)),
        ([{"flop": 0}], (0, 0)),
        ([], (0, None)),
    ],
)
def test_flops_are_known_when_every_worker_says_them(
    reports: list[dict[str, float]], work: tuple[int, int | None]
) -> None:
    """Half a sum would be a wrong figure; unknown is not 0."""
    assert figures.work_of(reports) == work


@pytest.mark.parametrize(
    ("value", "best", "mode", "expected"),
    [
        (0.5, None, "max", True), (0.5, 0.5, "max", False), (0.6, 0.5, "max", True),
        (0.6, 0.5, "min", False), (math.nan, None, "min", False), (-math.inf, 0.1, "min", False),
    ],
)  # fmt: skip
def test_only_a_finite_better_value_is_better(
    value: float, best: float | None, mode: str, expected: bool
) -> None:
    """A loss that is NaN is never the best one."""
    assert figures.better(value, best, mode) is expected
