from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.envelope import Envelope, InputBounds, Slots
from steelyard.domain.envelope_bounds import Bounds
from steelyard.domain.errors import InvalidInput
from steelyard.domain.model_version import Signature, TensorSpec
from steelyard_serving.envelope import flags, prepared

TABLE = Envelope((InputBounds("x", "feature", (0.0, -1.5), (1.0, 0.3)),), rows=9)


def made(
    envelope: Envelope | None, shape: tuple[int, ...] = (-1, 2), datatype: str = "FP32"
) -> tuple[Bounds, ...]:  # fmt: skip
    """What a replica of a version with one input checks against."""
    return prepared(envelope, Signature((TensorSpec("x", datatype, shape),), ()))


def odd(bounds: Sequence[Bounds], rows: Any, dtype: str = "float32") -> str | None:
    """What the record of these rows says."""
    return flags(bounds, {"x": np.array(rows, dtype)}, "flag")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[0.0, -1.5], [1.0, 0.3]], None),
        ([[0.5, 0.0], [1.001, 0.0]], "outside:x[0]"),
        ([[-0.001, 0.0], [0.5, 0.31]], "outside:x[0],x[1]"),
    ],
)
def test_rows_outside_of_training_are_flagged(rows: Any, said: str | None) -> None:
    """The bounds themselves are inside; the flag names features and no value."""
    assert odd(made(TABLE), rows) == said


def test_a_policy_may_refuse_or_accept() -> None:
    """A refusal names the feature, the value, its row and the range."""
    rows = {"x": np.array([[0.5, 0.0], [0.5, 7.2]], np.float32)}
    with pytest.raises(InvalidInput) as refused:
        flags(made(TABLE), rows, "refuse")
    assert refused.value.message == "x[1]: 7.2 in row 1 is outside: training had -1.5..0.3"
    assert refused.value.faults[0].where == "x[1]"
    assert flags(made(TABLE), rows, "accept") is None


def test_a_version_without_an_envelope_checks_nothing() -> None:
    """Nor does one whose bounds do not fit its inputs, or whose inputs are texts."""
    for bounds in (made(None), made(TABLE, (-1, 3)), made(TABLE, (-1, 2), "BYTES")):
        assert bounds == () and odd(bounds, [[9.0, 9.0]]) is None


def test_a_flag_stays_short() -> None:
    """A row of noise does not fill the audit: four features by name, and how many more."""
    wide = Envelope((InputBounds("x", "feature", (0.0,) * 300, (1.0,) * 300),), 9)
    assert odd(made(wide, (-1, 300)), np.full((2, 300), 5)) == "outside:x[0],x[1],x[2],x[3]+296"


def test_codes_that_training_never_had_are_outside() -> None:
    """A code between two known ones, too; a column without a list has its bounds alone."""
    bounds = InputBounds("x", "feature", (1, 0), (9, 5), ((1, 4, 9), ()))
    check = made(Envelope((bounds,), 9), datatype="INT64")
    assert odd(check, [[4, 3], [9, 5]], "int64") is None
    assert odd(check, [[5, 3]], "int64") == "outside:x[0]"
    assert odd(check, [[5, 6], [-(2**62), 0]], "int64") == "outside:x[0],x[1]"
    with pytest.raises(
        InvalidInput, match=r"x\[0\]: 5 in row 0 is outside: training had one of 1, 4, 9"
    ):
        flags(check, {"x": np.array([[5, 3]])}, "refuse")


@pytest.mark.parametrize(
    ("slots", "low", "high", "shape", "said"),
    [("channel", (0.0, 0.0), (1.0, 2.0), (-1, 2, 3, 3), "outside:x[1]"),
     ("all", (0.0,), (2.0,), (-1, 2, 3, 3), "outside:x")],
)  # fmt: skip
def test_images_have_bounds_for_channels_or_for_all(
    slots: Slots, low: tuple[float, ...], high: tuple[float, ...], shape: tuple[int, ...], said: str
) -> None:
    """One pixel is enough."""
    check = made(Envelope((InputBounds("x", slots, low, high),), 9), shape)
    images = np.ones((2, 2, 3, 3), np.float32)
    assert odd(check, images) is None
    images[1, 1, 2, 0] = 2.5
    assert odd(check, images) == said
    with pytest.raises(InvalidInput, match=r"2\.5 in row 1"):
        flags(check, {"x": images}, "refuse")


CODES = st.lists(st.integers(-40, 40), min_size=1, max_size=12, unique=True).map(sorted)


@given(
    CODES, CODES, st.lists(st.tuples(st.integers(-128, 127), st.integers(-128, 127)), min_size=1)
)
def test_inside_is_what_the_lists_say(
    first: list[int], second: list[int], rows: list[tuple[int, int]]
) -> None:
    """The vectorised look agrees with one at each number, in the smallest type."""
    codes = (tuple(first), tuple(second))
    bounds = InputBounds("x", "feature", (first[0], second[0]), (first[-1], second[-1]), codes)
    said = odd(made(Envelope((bounds,), 9), datatype="INT8"), rows, "int8")
    wrong = [f"x[{n}]" for n in (0, 1) if any(row[n] not in codes[n] for row in rows)]
    assert said == ("outside:" + ",".join(wrong) if wrong else None)
