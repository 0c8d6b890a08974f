"""``steelyard run``: a script of the user's, watched until the last of it is booked."""

import os
import shutil
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from steelyard.bootstrap.registry import check_registry
from steelyard.cli.output import note
from steelyard.domain.metering import Outcome
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_workflows.booking import journal
from steelyard_workflows.booking.attempts import close_open
from steelyard_workflows.booking.metering import Charge
from steelyard_workflows.tracking import outbox
from steelyard_workflows.tracking.outbox import Item
from steelyard_workflows.tracking.run import experiment_of, send_left
from steelyard_workflows.tracking.run_page import outbox_of
from steelyard_workflows.user_code.following import STATUS, PlainRun
from steelyard_workflows.user_code.script import Ended, Script
from steelyard_workflows.user_code.session import Session, announced, check_spool, checked

POLL_S = 0.2
CONTROLLERS_GONE_S = 30.0
"""How long a trainer's controller is waited for after its script has ended."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The script's own exit code, and the version that a plain loop has left."""

    code: int
    version: ModelVersion | None


def run(
    command: Sequence[str], session: Session, settings: Settings, variables: Mapping[str, str],
    devices: int | None = None,
) -> Finished:  # fmt: skip
    """Run a script with ``variables`` as its environment, until all it trained is booked.

    ``devices`` are what a plain loop reserves: by default the CPUs that it may use, or one where
    ``device_model`` is no CPU's.

    Raises:
        InvalidInput: a name cannot be used, or there is no such program.
        Refused: what is measured could not be written, or a loop's network not exported.
        Unavailable: MLflow does not answer.
    """
    checked(session)
    check_spool(settings)
    check_registry(settings)
    send_left(settings)
    experiment_of(settings, session.model)  # also makes a new home's database, before others do
    folder = settings.checkpoint_dir / f"script-{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    session = replace(session, folder=folder)
    script = Script(command, {**variables, **session.variables()})
    count = devices or default_devices(settings)
    plain = PlainRun(settings, session, script, Path(command[-1]).name, count)
    ended = _watch(script, plain)
    if ended.outcome != "ok":
        note(f"Steelyard: the script ended with code {ended.code}: {ended.outcome}")
    trainers = _settle_trainers(settings, folder, ended.outcome)
    version = plain.finish(ended)
    if not trainers and plain.page is None:
        note("Steelyard: nothing was trained: no trainer of Ray Train has started workers, and "
             "steelyard_workflows.report was not called")  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    return Finished(ended.code, version)


def default_devices(settings: Settings) -> int:
    """What a plain loop reserves unless somebody says otherwise."""
    if settings.device_model != Settings.model_fields["device_model"].default:
        return 1
    return len(os.sched_getaffinity(0))


def _watch(script: Script, plain: PlainRun) -> Ended:
    """Follow the script to its end."""
    pause = threading.Event()
    with script.signals_handed_on():
        while (ended := script.poll()) is None:
            plain.turn()
            pause.wait(POLL_S)
    return ended


def _settle_trainers(settings: Settings, folder: Path, outcome: Outcome) -> int:
    """Close what trainers have left open; how many there were."""
    charges = announced(folder)
    end = time.monotonic() + CONTROLLERS_GONE_S
    for run_id, charge in charges.items():
        path = settings.checkpoint_dir / run_id / journal.FILE
        while not _closed(settings, charge, path, outcome) and time.monotonic() < end:
            threading.Event().wait(POLL_S)
        attempts = {entry.attempt: entry.outcome for entry in journal.read(path)}
        note(f"Steelyard: run {run_id}: attempts: {_told(attempts)}")
    if charges:
        send_left(settings)
    return len(charges)


def _closed(settings: Settings, charge: Charge, path: Path, outcome: Outcome) -> bool:
    """Book the open end of a trainer whose controller is gone; whether it is gone."""
    with outbox.claimed(path) as gone:
        if not gone:
            return False
        # A script that ended well has left no attempt open, unless it did not wait for one.
        left: Outcome = "failed" if outcome == "ok" else outcome
        close_open(settings, charge, path, left)
    unsent = outbox_of(settings, charge.run_id)
    if unsent.exists() and not outbox.ended(unsent):
        at_ms = time.time_ns() // 1_000_000
        outbox.put(unsent, Item("end", {"status": STATUS[left], "at_ms": at_ms}))
    return True


def _told(attempts: Mapping[int, Outcome | None]) -> str:
    return ", ".join(f"{n} {how or 'goes on'}" for n, how in attempts.items()) or "none"
