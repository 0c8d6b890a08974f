import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest

from steelyard.domain.api_key import ApiKey
from steelyard.domain.serving_policy import ServingPolicy
from steelyard.domain.serving_snapshot import Snapshot, sealed
from steelyard.settings import Settings
from steelyard_serving.rules import INTERVAL_S, Rules
from steelyard_serving.secret_files import serving_key

FIRST = Snapshot(policies={"digits": ServingPolicy(batch_latency_ms=5)})
SECOND = replace(FIRST, keys={"0123456789": ApiKey("0123456789", "shop", "d" * 64, 1)})


def put(settings: Settings, document: bytes) -> None:
    """Replace the snapshot as the controller does: by a rename."""
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    draft = settings.run_dir / "draft"
    draft.write_bytes(document)
    os.replace(draft, settings.run_dir / "serving.snapshot")


def write(settings: Settings, snapshot: Snapshot) -> None:
    """A snapshot that this platform signed."""
    put(settings, sealed(snapshot, serving_key(settings)))


def test_a_platform_where_nothing_was_set_has_the_defaults(settings: Settings) -> None:
    """No file is no fault."""
    assert Rules(settings).current(0.0) == Snapshot()


def test_without_a_snapshot_nobody_gets_in_where_keys_are_needed(settings: Settings) -> None:
    """Nor does an older snapshot open what the setting has closed."""
    strict = settings.model_copy(update={"require_keys": True})
    rules = Rules(strict)
    assert rules.current(0.0) == Snapshot(require_keys=True)
    write(settings, FIRST)
    assert rules.current(INTERVAL_S) == replace(FIRST, require_keys=True)


def test_a_change_is_seen_at_the_next_look(settings: Settings) -> None:
    """Looks are a second apart, and nothing is read in between."""
    write(settings, FIRST)
    rules = Rules(settings)
    assert rules.current(10.0) == FIRST
    write(settings, SECOND)
    assert rules.current(10.0 + INTERVAL_S / 2) == FIRST
    assert rules.current(10.0 + INTERVAL_S) == SECOND


@pytest.mark.parametrize("damage", ["flipped", "empty", "cut", "foreign", "gone", "folder"])
def test_a_file_that_is_not_ours_changes_nothing(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    """The last good rules stay, the log says so once, and a good file is taken again."""
    write(settings, FIRST)
    rules = Rules(settings)
    rules.current(0.0)
    file = settings.run_dir / "serving.snapshot"
    whole = sealed(SECOND, serving_key(settings))
    if damage in ("gone", "folder"):
        file.unlink()
        if damage == "folder":
            file.mkdir()
    else:
        bad = {"flipped": whole[:-3] + b"x" + whole[-2:], "empty": b"", "cut": whole[:90],
               "foreign": sealed(SECOND, b"k" * 32)}[damage]  # fmt: skip
        put(settings, bad)
    with caplog.at_level(logging.ERROR):
        assert [rules.current(float(second)) for second in range(1, 5)] == [FIRST] * 4
    assert len(caplog.records) == 1 and "the last good one stays" in caplog.text
    if damage == "folder":
        file.rmdir()
    write(settings, SECOND)
    assert rules.current(9.0) == SECOND


def test_a_snapshot_without_the_secret_is_not_believed(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """There is nothing to prove it by; the log says so."""
    put(settings, sealed(FIRST, b"k" * 32))
    assert Rules(settings).current(0.0) == Snapshot()
    assert "serving.key" in caplog.text
