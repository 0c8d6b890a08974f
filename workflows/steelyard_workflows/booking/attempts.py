"""An attempt whose controller is gone: its open end is booked by whoever is left."""

from pathlib import Path

from steelyard.bootstrap.counting import producer
from steelyard.domain.metering import Outcome
from steelyard.settings import Settings
from steelyard_workflows.booking import journal
from steelyard_workflows.booking.journal import Entry
from steelyard_workflows.booking.metering import Booking, Charge, Work, now_us


def resource_of(charge: Charge, attempt: int) -> str:
    """What the ledger calls the worker group of an attempt."""
    return f"train/{charge.run_id}/{attempt}"


def close_open(settings: Settings, charge: Charge, path: Path, outcome: Outcome) -> None:
    """Book what a controller that is gone has left open in its journal, up to now."""
    left = journal.open_attempt(journal.read(path))
    if left is None:
        return
    writer = producer(settings, f"driver:{charge.run_id}")
    resource_id = resource_of(charge, left.attempt)
    booking = Booking(writer, charge, resource_id, left.started_us, left.attempt)
    booking.skip_to(left.booked_until_us)
    at_us = now_us()
    booking.window("train", at_us, Work())
    booking.end(max(at_us, booking.booked_until_us), outcome)
    journal.append(path, Entry("attempt_ended", left.attempt, at_us, outcome))
