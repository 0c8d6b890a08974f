from typing import Any

import pytest

from steelyard.domain.errors import InvalidInput
from steelyard.domain.metering import SupplyWindow, UsageWindow
from steelyard.domain.model_version import VersionRef, parse_model, parse_ref
from steelyard.domain.supervision import backoff_s

WINDOW: dict[str, Any] = {
    "producer_id": "p", "boot_id": "b", "seq": 0, "resource_id": "r", "window_start_us": 0,
    "window_end_us": 10,
}  # fmt: skip


def _supply(**more: Any) -> SupplyWindow:
    values: dict[str, Any] = {**WINDOW, "reserved_us": 10}
    return SupplyWindow(**{**values, **more})


def _usage(**more: Any) -> UsageWindow:
    values: dict[str, Any] = {
        **WINDOW, "model": "m", "version": 1, "phase": "inference", "activity": "serve",
    }  # fmt: skip
    return UsageWindow(**{**values, **more})


@pytest.mark.parametrize("end_us", [0, -1])
def test_a_window_ends_after_it_starts(end_us: int) -> None:
    """An empty window has no rate and no share."""
    with pytest.raises(ValueError, match="ends after it starts"):
        _supply(window_end_us=end_us)
    with pytest.raises(ValueError, match="ends after it starts"):
        _usage(window_end_us=end_us)


def test_energy_is_unknown_exactly_when_its_method_is() -> None:
    """A figure says where it is from, and no method means no figure; 0 is a figure."""
    with pytest.raises(ValueError, match="exactly when"):
        _supply(energy_mj=0)
    with pytest.raises(ValueError, match="exactly when"):
        _supply(energy_method="counter_cpu")
    assert _supply(energy_mj=0, energy_method="counter_cpu").energy_mj == 0


def test_usage_belongs_to_a_version_or_a_run() -> None:
    """Otherwise nobody could be charged."""
    with pytest.raises(ValueError, match="a version or a run"):
        _usage(version=None)
    assert _usage(version=None, run_id="run").run_id == "run"


def test_a_window_s_key_is_about_which_window_not_about_what_was_seen() -> None:
    """So a retry is recognised, and other content under the same key is an alarm."""
    assert _usage(requests=1).idem_key == _usage(requests=2, seq=9).idem_key
    assert _supply(reserved_us=5).idem_key == _supply().idem_key
    others: list[dict[str, Any]] = [
        {"model": "n"}, {"version": 2}, {"activity": "batch"}, {"boot_id": "c"},
        {"window_start_us": 1}, {"attempt": 2}, {"run_id": "run"},
    ]  # fmt: skip
    keys = {_usage(**other).idem_key for other in others}
    assert len(keys | {_usage().idem_key, _supply().idem_key}) == len(others) + 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("digits", VersionRef("digits")),
        ("digits/2", VersionRef("digits", 2)),
        ("digits@champion", VersionRef("digits", None, "champion")),
        ("a-b_c9/10", VersionRef("a-b_c9", 10)),
    ],
)
def test_a_reference_is_a_model_a_version_or_an_alias(text: str, expected: VersionRef) -> None:
    """As people type it."""
    assert parse_ref(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "/2", "digits/", "digits/0", "digits/-1", "digits/x", "digits@", "@champion", "Digits",
     "digits/2/3", "digits/1@x", "-digits", "digits-", "di gits", "digits\n", "../digits",
     "digits/²", "a" * 65],
)  # fmt: skip
def test_any_other_reference_is_refused(text: str) -> None:
    """The fault shows what was typed, the hint shows an example."""
    with pytest.raises(InvalidInput, match="is not MODEL") as refused:
        parse_ref(text)
    assert "digits/2" in refused.value.hint


@pytest.mark.parametrize("text", ["digits/2", "digits@champion"])
def test_where_a_model_is_meant_no_version_is_named(text: str) -> None:
    """It would not be heeded, and whoever typed it would think that it was."""
    with pytest.raises(InvalidInput, match="names a version") as refused:
        parse_model(text)
    assert refused.value.hint == "Leave it out: digits."


def test_restarts_slow_down_to_half_a_minute() -> None:
    """At once the first time, then doubling, and never longer than 30 seconds."""
    waits = [backoff_s(n) for n in range(1, 2_000)]
    assert waits[:4] == [0.0, 0.5, 1.0, 2.0]
    assert waits == sorted(waits)
    assert waits[-1] == 30.0
