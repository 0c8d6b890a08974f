from dataclasses import replace
from pathlib import Path

import pytest
from tests.spooled import spooled

from steelyard.bootstrap.counting import producer
from steelyard.domain.metering import ResourceEnd, RunAttempt, SupplyWindow, UsageWindow
from steelyard.domain.model_version import FlopsProfile
from steelyard.settings import Settings
from steelyard_workflows.booking.metering import Booking, Charge, Work, stopwatch

CHARGE = Charge("run-1", "digits", 2, "generic-vcpu", "vcpu-hour", team="vision")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home of this test's own."""
    return Settings(home=tmp_path)


def test_windows_cover_the_reservation_without_gaps(settings: Settings) -> None:
    """Reserved time is wall time by devices; what is reserved counts as busy."""
    booking = Booking(producer(settings, "test"), CHARGE, "train/run-1/1", 1_000, attempt=1)
    booking.window("train", 3_000, Work(items=64, flop=640, cpu_us=2_500))
    booking.window("train", 3_000, Work(items=1))
    booking.window("train", 4_500, Work(flop=None))
    booking.end(4_500, "failed")
    supply, usage = spooled(settings, SupplyWindow), spooled(settings, UsageWindow)
    assert [(s.window_start_us, s.window_end_us) for s in supply] == [
        (1_000, 3_000), (3_000, 4_500),
    ]  # fmt: skip
    assert [s.reserved_us for s in supply] == [4_000, 3_000]
    assert [u.busy_ns for u in usage] == [2_000_000, 1_500_000]
    assert [(u.items, u.flop) for u in usage] == [(64, 640), (0, None)]
    assert [row.seq for pair in zip(supply, usage, strict=True) for row in pair] == [1, 2, 3, 4]
    assert spooled(settings, ResourceEnd)[0].ended_us == 4_500
    assert spooled(settings, RunAttempt)[0].outcome == "failed"


@pytest.mark.parametrize(
    ("error", "outcome"), [(None, "ok"), (ValueError, "failed"), (KeyboardInterrupt, "cancelled")]
)
def test_work_in_this_process_is_booked_however_it_ends(
    settings: Settings, error: type[BaseException] | None, outcome: str
) -> None:
    """Failed and cancelled work cost money too."""
    try:
        with (
            stopwatch(settings, CHARGE, "compress/run-1", is_attempt=True) as watch,
            watch.measure("compress") as work,
        ):
            work.items = sum(1 for _ in range(10_000))
            if error is not None:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    (usage,) = spooled(settings, UsageWindow)
    assert (usage.activity, usage.items, usage.version) == ("compress", 10_000, None)
    assert spooled(settings, SupplyWindow)[0].cpu_us is not None
    (attempt,) = spooled(settings, RunAttempt)
    assert (attempt.run_id, attempt.attempt, attempt.outcome) == ("run-1", 1, outcome)
    assert len(spooled(settings, ResourceEnd)) == 1


def test_answers_are_counted_by_the_profile_of_their_version(settings: Settings) -> None:
    """Items times forward, in the profile's datatype; without a profile neither is known."""
    profile = FlopsProfile(10, None, "counted", 1.0, datatype="FP32")
    with stopwatch(settings, CHARGE, "evaluate/run-1", is_attempt=False) as watch:
        for known in (profile, replace(profile, forward=None), None):
            with watch.measure("evaluate") as work:
                sum(range(10_000))
                work.count(7, known)
    usage = spooled(settings, UsageWindow)
    assert [(u.items, u.flop, u.datatype) for u in usage] == [
        (7, 70, "fp32"), (7, None, "fp32"), (7, None, None),
    ]  # fmt: skip


def test_time_between_activities_is_not_booked(settings: Settings) -> None:
    """Only measured blocks are reserved by in-process work."""
    charge = Charge("run-1", "digits", 1, "generic-vcpu", "vcpu-hour")
    with stopwatch(settings, charge, "evaluate/run-1", is_attempt=False) as watch:
        for _ in range(2):
            with watch.measure("evaluate"):
                sum(range(100_000))
            sum(range(100_000))
    first, second = spooled(settings, SupplyWindow)
    assert second.window_start_us > first.window_end_us
    assert spooled(settings, RunAttempt) == []
