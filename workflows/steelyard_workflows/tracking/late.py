"""What is found out about a run that has ended already: its total, how it did on other rows."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from steelyard.cli.output import note
from steelyard.domain.errors import Unavailable
from steelyard.settings import Settings
from steelyard_workflows.tracking import outbox
from steelyard_workflows.tracking.outbox import Item
from steelyard_workflows.tracking.run_page import outbox_of
from steelyard_workflows.tracking.sending import sender


@contextmanager
def told_late(settings: Settings, run_id: str, what: str) -> Iterator[None]:
    """Send what the block writes into the run's outbox; ``what`` names it where it has to wait.

    An MLflow that is away gets it with the next ``steelyard train``.
    """
    path = outbox_of(settings, run_id)
    with outbox.claimed(path) as mine:
        yield
        if not mine:
            return  # the run goes on in another process, which sends this too
        try:
            outbox.drain(path, sender(settings, run_id))
        except Unavailable as error:
            note(f"{what} of run {run_id} waits for the next `steelyard train`: {error.message}")
            return
        outbox.remove(path)


def end_late(settings: Settings, run_id: str, status: str) -> None:
    """End a run whose process is gone, unless it said itself how it ended."""
    path = outbox_of(settings, run_id)
    with told_late(settings, run_id, "The end"):
        if not outbox.ended(path):
            at_ms = time.time_ns() // 1_000_000
            outbox.put(path, Item("end", {"status": status, "at_ms": at_ms}))
