import os
import subprocess
import sys
import time

import psutil

from steelyard_workflows.booking.process_time import ProcessTime


def test_growth_is_what_a_process_used_since_the_last_look() -> None:
    """From the process's start, then from look to look."""
    since_us = time.time_ns() // 1_000 - 1_000_000
    program = "sum(range(3_000_000)); print(); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1) as process:
        assert process.stdout is not None
        meter = ProcessTime([process.pid], since_us)
        process.stdout.readline()
        first, second = meter.growth_us(), meter.growth_us()
        process.communicate(b"\n")
    assert first is not None and first >= 10_000
    assert second is not None and second < first
    assert meter.growth_us() is None


def test_what_a_process_did_before_is_not_charged() -> None:
    """An older process counts from the first look on; that window itself is unknown."""
    started_us = psutil.Process().create_time() * 1e6
    meter = ProcessTime([os.getpid()], int(started_us) + 10_000_000)
    assert meter.growth_us() is None
    assert meter.growth_us() is not None


def test_processes_elsewhere_are_unknown() -> None:
    """None, not 0."""
    assert ProcessTime(None, 0).growth_us() is None
