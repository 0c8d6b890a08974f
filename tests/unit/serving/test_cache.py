"""What a replica's cache keeps, for how long, and how requests are told apart."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from steelyard_serving.cache import ENTRY_BYTES, Cache, key_of

FOREVER = 10**18


def outputs(value: int, size: int = 100) -> dict[str, np.ndarray]:
    """An answer of so many bytes."""
    return {"y": np.full(size, value, np.uint8)}


def test_an_answer_is_kept_until_it_is_too_old() -> None:
    """And not a nanosecond longer; its room is free again."""
    cache = Cache(10_000, ttl_ns=50)
    cache.put(b"a", outputs(1), now_ns=100)
    found = cache.get(b"a", 149)
    assert found is not None
    assert found["y"][0] == 1
    assert cache.get(b"a", 150) is None
    assert cache.held_bytes == 0


def test_the_longest_unused_goes_first() -> None:
    """Room for two: the third drives out the one that nobody asked for."""
    cache = Cache(2 * (ENTRY_BYTES + 100), FOREVER)
    cache.put(b"a", outputs(1), 0)
    cache.put(b"b", outputs(2), 0)
    assert cache.get(b"a", 1)
    cache.put(b"c", outputs(3), 2)
    assert [cache.get(key, 3) is not None for key in (b"a", b"b", b"c")] == [True, False, True]


def test_bounds_change_at_once() -> None:
    """A smaller cache gives up entries, one that is turned off all; a shorter life counts, too."""
    cache = Cache(10_000, FOREVER)
    for key in (b"a", b"b", b"c"):
        cache.put(key, outputs(1), 0)
    cache.resize(ENTRY_BYTES + 100, FOREVER)
    assert [cache.get(key, 1) is not None for key in (b"a", b"b", b"c")] == [False, False, True]
    cache.resize(ENTRY_BYTES + 100, 1)
    assert cache.get(b"c", 1) is None
    cache.put(b"c", outputs(1), 1)
    cache.resize(0, 1)
    assert cache.held_bytes == 0
    cache.put(b"d", outputs(1), 1)
    assert cache.held_bytes == 0


def test_what_is_kept_is_a_copy() -> None:
    """Rows of a shared batch do not keep the batch, and nobody can change what others will get."""
    batch = np.arange(1000)
    cache = Cache(10_000, FOREVER)
    cache.put(b"a", {"y": batch[:2]}, 0)
    batch[0] = 7
    found = cache.get(b"a", 1)
    assert found is not None
    assert found["y"].base is None
    assert found["y"].tolist() == [0, 1]
    assert not found["y"].flags.writeable


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 3_000), st.booleans())))
def test_it_never_holds_more_than_its_limit(acts: list[tuple[str, int, bool]]) -> None:
    """And knows how much it holds, whatever is put, read and replaced."""
    cache = Cache(4_000, 5)
    for now, (key, size, put) in enumerate(acts):
        if put:
            cache.put(key.encode(), outputs(1, size), now)
        else:
            cache.get(key.encode(), now)
        assert cache.held_bytes <= 4_000
        assert cache.held_bytes == sum(one.size for one in cache._entries.values())


def test_requests_are_told_apart_by_all_that_they_ask() -> None:
    """Another artefact, name, datatype, shape or value is another request; order is not."""
    x = np.zeros((1, 4), np.float32)
    texts = np.array([["ab", "c"]], object)
    different = [
        key_of("1", {"x": x}), key_of("2", {"x": x}), key_of("1", {"y": x}),
        key_of("1", {"x": x.astype(np.int32)}), key_of("1", {"x": x.reshape(2, 2)}),
        key_of("1", {"x": x + 1}), key_of("1", {"x": texts}),
        key_of("1", {"x": np.array([["a", "bc"]], object)}),
        key_of("1", {"x": np.array([["\ud800", ""]], object)}),
    ]  # fmt: skip
    assert len(set(different)) == len(different)
    assert key_of("1", {"x": x, "y": x + 1}) == key_of("1", {"y": x + 1, "x": x})
    # Cut out of something larger, it is still the same values.
    assert key_of("1", {"x": np.zeros((1, 8), np.float32)[:, ::2]}) == different[0]
