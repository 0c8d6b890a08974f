"""The sign that breaks a run off where it is: a file beside its journal, for who cannot signal.

Ray Train aborts a run on Ctrl-C in the driver's main thread only. A run that is driven from
another thread or process is aborted by its own controller when this file appears: the attempt is
booked as cancelled, as it is on Ctrl-C. A Ray Train that can be asked to abort from outside would
let us delete the callback.
"""

from pathlib import Path
from typing import Any

import ray
from ray.train.v2._internal.execution.callback import WorkerGroupCallback

CANCEL_FILE = "cancel"


class CancelCallback(WorkerGroupCallback):
    """Aborts the controller that it runs in as soon as the file is there."""

    def __init__(self, sign: Path) -> None:
        self._sign = sign
        self._aborted = False

    def after_worker_group_poll_status(self, worker_group_status: Any) -> None:
        """Look for the file, several times a second."""
        if not self._aborted and self._sign.exists():
            self._aborted = True
            ray.get_runtime_context().current_actor.abort.remote()


def cancel(folder: Path) -> None:
    """Ask for the run whose journal is in ``folder`` to be broken off."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CANCEL_FILE).touch()


def cancelled(folder: Path) -> bool:
    """Whether somebody has asked for it."""
    return (folder / CANCEL_FILE).exists()
