"""Where processes of this machine leave what they measure and count, and who reads it."""

from typing import TYPE_CHECKING

from steelyard.settings import Settings

if TYPE_CHECKING:
    from steelyard.adapters.counter_files import CounterFile, CounterFolder
    from steelyard.adapters.spool import Producer
    from steelyard.domain.key_counters import Asked
    from steelyard.domain.serving_counters import Served


def producer(settings: Settings, producer_id: str) -> "Producer":
    """A writer of facts into this machine's spool."""
    from steelyard.adapters.spool import Producer

    return Producer(settings.spool_dir, producer_id)


def counter_file(settings: Settings, boot: str, served: "Served") -> "CounterFile":
    """The counters of a replica, which is this process."""
    from steelyard.adapters.counter_files import CounterFile

    return CounterFile(settings.counter_dir, boot, served)


def counters(settings: Settings) -> "CounterFolder":
    """What the replicas of this machine counted."""
    from steelyard.adapters.counter_files import CounterFolder

    return CounterFolder(settings.counter_dir)


def keys_asked(settings: Settings, now_us: int) -> "dict[str, Asked]":
    """What each key asked this machine's replicas, by its id."""
    from steelyard.adapters.key_counter_files import read_asked

    return read_asked(settings.run_dir / "quota", now_us)
