import numpy as np

from steelyard.domain.envelope import Envelope, InputBounds
from steelyard.domain.model_version import Signature, TensorSpec
from steelyard_serving.envelope import prepared
from steelyard_serving.near_duplicates import KEYS, ROWS, NearDuplicates
from steelyard_serving.protocols.tensors import Array

FEATURES = 64
ENVELOPE = Envelope((InputBounds("x", "feature", (-3.0,) * FEATURES, (3.0,) * FEATURES),), 9)
SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, FEATURES)),), ())


def near() -> NearDuplicates:
    """Of a version with a table of 64 features."""
    return NearDuplicates(prepared(ENVELOPE, SIGNATURE))


def asked(seen: NearDuplicates, rows: Array, key_id: str = "a") -> int:
    """How many of the rows were near to an earlier one."""
    return seen.count(key_id, {"x": rows.astype(np.float32)}, len(rows))


def test_small_steps_from_one_row_are_seen() -> None:
    """Steps of a thousandth of the range: most of 200 questions, as a boundary search asks them."""
    noise = np.random.default_rng(5)
    seen, start = near(), noise.uniform(-3, 3, (1, FEATURES))
    steps = [asked(seen, start + noise.normal(0, 0.006, start.shape)) for _ in range(200)]
    assert sum(steps) > 150


def test_rows_that_differ_are_not() -> None:
    """Random rows of the same range: not one of 500."""
    rows = np.random.default_rng(6).uniform(-3, 3, (500, FEATURES))
    seen = near()
    assert sum(asked(seen, rows[n : n + 1]) for n in range(500)) == 0


def test_rows_of_one_request_count_among_each_other_and_keys_apart() -> None:
    """The same row three times is two near duplicates; another key has asked none."""
    rows, seen = np.zeros((3, FEATURES)), near()
    assert asked(seen, rows) == 2
    assert asked(seen, rows[:1], "b") == 0


def test_what_is_remembered_is_bounded() -> None:
    """The oldest rows and the keys that asked longest ago are forgotten."""
    seen, start = near(), np.zeros((1, FEATURES))
    rows = np.random.default_rng(7).uniform(-3, 3, (ROWS, FEATURES))
    asked(seen, start)
    for row in rows:
        asked(seen, row[None])
    assert asked(seen, start) == 0
    assert asked(seen, start) == 1
    for number in range(KEYS):
        asked(seen, start, f"k{number}")
    assert asked(seen, start) == 0


def test_numbers_of_any_size_are_rounded_in_silence() -> None:
    """Ranges and values at the ends of what a float holds are no trouble."""
    for dtype, datatype in (("float16", "FP16"), ("float32", "FP32"), ("float64", "FP64")):
        least, tiny = float(np.finfo(dtype).min), float(np.finfo(dtype).tiny)
        envelope = Envelope((InputBounds("x", "feature", (least, 0.0), (-least, tiny)),), 9)
        signature = Signature((TensorSpec("x", datatype, (-1, 2)),), ())
        for bounds in (prepared(envelope, signature), ()):
            rows = np.array([[least, -least], [-least, tiny], [0, 0]], dtype)
            assert NearDuplicates(bounds).count("k", {"x": rows}, 3) < 3


def test_without_an_envelope_floats_are_rounded_and_others_exact() -> None:
    """Numbers, whole numbers and texts together, and an input that is no list of rows."""
    seen = NearDuplicates(())
    inputs = {"f": np.array([[1.01], [7.0]], np.float16), "n": np.array([[3], [4]]),
              "t": np.array([["a"], ["b"]], object)}  # fmt: skip
    assert seen.count("k", inputs, 2) == 0
    assert seen.count("k", inputs | {"f": np.array([[1.02], [7.1]], np.float16)}, 2) == 2
    assert seen.count("k", inputs | {"n": np.array([[3], [5]])}, 2) == 1
    lone = {"t": np.array(["a", "b", "a"], object)}
    assert seen.count("l", lone, 3) == 1
    assert seen.count("l", {"t": lone["t"][1:2]}, 1) == 1
    fixed = {"x": np.zeros((5, 2)), "scale": np.zeros(())}
    assert [seen.count("k", fixed, 1) for _ in range(2)] == [0, 1]
