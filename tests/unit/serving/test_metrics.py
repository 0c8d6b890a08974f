"""What replicas count, over their deaths and however many threads count at once."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from steelyard.bootstrap.counting import counters
from steelyard.domain.serving_counters import Served
from steelyard.ports.applications import ServedVersion
from steelyard.settings import Settings
from steelyard_serving.metrics import Metrics

MS = 1_000_000
REPLICA = """
import sys
from steelyard.bootstrap.counting import counter_file
from steelyard.domain.serving_counters import SLOTS, Served
from steelyard.settings import Settings
file = counter_file(Settings(home=sys.argv[1]), sys.argv[2], Served("m", 1, "fp32"))
file.counts[SLOTS.index("rows")] += int(sys.argv[3])
print("counted", flush=True)
sys.stdin.read()
"""
THE = Served("m", 1, "fp32")


class Replica:
    """A process that counts some rows and then waits to be killed."""

    def __init__(self, home: Path, boot: str, rows: int) -> None:
        command = [sys.executable, "-c", REPLICA, str(home), boot, str(rows)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "counted\n"

    def kill(self) -> None:
        """Without a chance to say anything."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


def test_every_answer_is_counted_once_by_its_status_and_time(
    settings: Settings, make_served: Callable[[int], ServedVersion]
) -> None:
    """Bounds belong to their bucket; a status nobody foresaw is counted, too."""
    metrics = Metrics(settings, make_served(1).version)
    metrics.observe(200, 50 * MS, queue_ns=7, cache="miss")
    metrics.observe(200, 50 * MS + 1, cache="hit")
    metrics.observe(418, 3600 * 1_000 * MS)
    metrics.executed(32)
    metrics.shadowed("dropped")
    (counts,) = counters(settings).totals().values()
    found = {name: count for name, count in counts.items() if count}
    assert found == {
        "code_200": 2, "code_other": 1, "bucket_50000": 1, "bucket_100000": 1, "bucket_inf": 1,
        "duration_ns": 100 * MS + 1 + 3600 * 1_000 * MS, "queue_ns": 7, "rows": 32, "batches": 1,
        "cache_hits": 1, "cache_misses": 1, "shadow_dropped": 1,
    }  # fmt: skip


def test_threads_lose_no_count(
    settings: Settings, make_served: Callable[[int], ServedVersion]
) -> None:
    """The event loop, the shadow's thread and gRPC's may count at once."""
    metrics = Metrics(settings, make_served(1).version)

    def work() -> None:
        for _ in range(5_000):
            metrics.observe(200, MS)
            metrics.executed(3)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    (counts,) = counters(settings).totals().values()
    assert (counts["code_200"], counts["rows"]) == (20_000, 60_000)


def test_counters_of_killed_replicas_neither_vanish_nor_double(settings: Settings) -> None:
    """A replica that is killed loses nothing; folding its file away changes no sum."""
    folder = counters(settings)
    gone, stays = Replica(settings.home, "a", 5), Replica(settings.home, "b", 7)
    try:
        assert {one.pid for one in folder.living()} == {gone.process.pid, stays.process.pid}
        assert folder.fold() == 0
        gone.kill()
        assert [one.pid for one in folder.living()] == [stays.process.pid]
        assert folder.totals()[THE]["rows"] == 12
        assert folder.fold() == 1
        assert folder.fold() == 0
        assert folder.totals()[THE]["rows"] == 12
        assert [path.stem for path in settings.counter_dir.glob("*.counters")] == ["b"]
    finally:
        gone.kill()
        stays.kill()
    folder.fold()
    assert folder.totals()[THE]["rows"] == 12


def test_a_folding_that_was_cut_short_is_finished_without_doubling(settings: Settings) -> None:
    """Killed between the new sum and the old file's removal: the file is there, and counted."""
    replica = Replica(settings.home, "a", 5)
    file = settings.counter_dir / "a.counters"
    content = file.read_bytes()
    replica.kill()
    folder = counters(settings)
    assert folder.fold() == 1
    file.write_bytes(content)
    assert folder.totals()[THE]["rows"] == 5
    assert folder.fold() == 1
    assert not file.exists()
    assert folder.totals()[THE]["rows"] == 5


def test_nobody_counted_yet(settings: Settings) -> None:
    """A platform whose first replica is still to come has no counters and no complaint."""
    folder = counters(settings)
    assert folder.totals() == {}
    assert folder.living() == []
    assert folder.fold() == 0


def test_only_the_owner_may_read_counters(settings: Settings) -> None:
    """The folder is private, as all of the home is."""
    replica = Replica(settings.home, "a", 1)
    replica.kill()
    assert os.stat(settings.counter_dir).st_mode & 0o077 == 0
