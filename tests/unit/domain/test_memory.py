from fractions import Fraction

import pytest

from steelyard.domain.errors import InvalidInput
from steelyard.domain.memory import (
    SparseIndex,
    devices_needed,
    saving,
    sparse_bytes,
    training_state_bytes,
    weight_bytes,
)

GB = 10**9
GPT3 = 175 * GB
TRILLION = 1_700 * GB
A100 = 80 * GB


@pytest.mark.parametrize(
    ("bits", "gb", "devices"), [(32, "700", 9), (16, "350", 5), (8, "175", 3), (4, "87.5", 2)]
)
def test_gpt3_on_a100(bits: int, gb: str, devices: int) -> None:
    """Weights alone take 9, 5, 3 or 2 devices of 80 GB, not "4 to 8" (A1: W4, R3)."""
    size = weight_bytes(GPT3, bits)
    assert size == Fraction(gb) * GB
    assert devices_needed(size, A100) == devices


@pytest.mark.parametrize(("bits", "tb", "devices"), [(32, "6.8", 85), (16, "3.4", 43)])
def test_a_trillion_parameters_on_a100(bits: int, tb: str, devices: int) -> None:
    """6.8 TB on 85 devices, not 6 TB on 16 (A1: W5)."""
    size = weight_bytes(TRILLION, bits)
    assert size == Fraction(tb) * 1000 * GB
    assert devices_needed(size, A100) == devices


def test_training_states_are_sixteen_bytes_a_parameter() -> None:
    """2.8 TB and 27.2 TB before any activation (A1: W6)."""
    assert training_state_bytes(GPT3) == 2_800 * GB
    assert training_state_bytes(TRILLION) == 27_200 * GB


@pytest.mark.parametrize(
    ("bits", "index", "gb", "saved"),
    [
        (32, "int32", "420", "0.4"),
        (16, "int32", "315", "0.1"),
        (16, "bitmask", "126.875", "0.6375"),
    ],
)
def test_zeros_save_less_than_their_share(
    bits: int, index: SparseIndex, gb: str, saved: str
) -> None:
    """70 % zeros save 40, 10 or 63.75 % of a file, not 70 (A1: W7)."""
    size = sparse_bytes(GPT3, Fraction("0.7"), bits, index)
    assert size == Fraction(gb) * GB
    assert saving(weight_bytes(GPT3, bits), size) == Fraction(saved)


def test_sixty_percent_of_the_size_is_forty_percent_smaller() -> None:
    """66 of 110 million parameters (A1: W3)."""
    assert saving(110_000_000, 66_000_000) == Fraction(2, 5)


def test_a_full_device_is_enough_and_a_byte_more_is_not() -> None:
    """The edge between one device and two."""
    assert devices_needed(A100, A100) == 1
    assert devices_needed(A100 + 1, A100) == 2
    assert devices_needed(0, A100) == 0


def test_impossible_sizes_are_refused() -> None:
    """Devices without memory, shares above one, models without weights of a size."""
    with pytest.raises(InvalidInput):
        devices_needed(1, 0)
    with pytest.raises(InvalidInput):
        sparse_bytes(1, Fraction(2), 32, "int32")
    with pytest.raises(InvalidInput):
        weight_bytes(-1, 32)
    with pytest.raises(InvalidInput):
        training_state_bytes(1, 0)
    with pytest.raises(InvalidInput):
        saving(0, 1)
