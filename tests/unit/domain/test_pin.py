import pytest

from steelyard.domain.pin import Pin, pinned_version

KEY, NOW = b"k" * 32, 1_800_000_000
GOOD = Pin("digits", 2, NOW + 60)


def test_a_pin_holds_until_it_expires() -> None:
    """For its model and under its key alone."""
    text = GOOD.sealed(KEY)
    assert pinned_version(text, "digits", KEY, NOW + 59) == 2
    assert pinned_version(text, "digits", KEY, NOW + 60) is None
    assert pinned_version(text, "other", KEY, NOW) is None
    assert pinned_version(text, "digits", b"x" * 32, NOW) is None


@pytest.mark.parametrize("change", [("2.", "3."), ("2.", "02."), (".18", ".19"), (".", "")])
def test_a_changed_pin_is_none(change: tuple[str, str]) -> None:
    """Version and expiry are signed as they are written."""
    assert pinned_version(GOOD.sealed(KEY).replace(*change, 1), "digits", KEY, NOW) is None
