"""Inside Ray Train's controller: every attempt becomes facts for the ledger and journal lines.

The hooks are Ray 2.60's internal ones (developer API): ``UserCallback`` does not see worker
groups start and stop, and a failed attempt is booked by its worker group's wall time. A contract
test watches them; a public hook for worker groups would let us drop the private import.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.train.v2._internal.execution.callback import (
    ControllerCallback,
    ReportCallback,
    WorkerGroupCallback,
)

from steelyard.bootstrap.counting import producer
from steelyard.bootstrap.power import energy_account
from steelyard.domain.metering import Outcome, SupplyWindow
from steelyard.settings import Settings
from steelyard_workflows.booking import journal
from steelyard_workflows.booking.attempts import resource_of
from steelyard_workflows.booking.journal import Entry
from steelyard_workflows.booking.metering import Booking, Charge, Work, now_us
from steelyard_workflows.booking.process_time import ProcessTime
from steelyard_workflows.training.spending import Guard

SHOWN = (
    "epoch", "step", "train_loss", "validation_loss", "validation_accuracy", "learning_rate",
    "items_per_s",
)  # fmt: skip
"""What of a report is written into the journal."""


class AttemptCallback(ControllerCallback, ReportCallback, WorkerGroupCallback):
    """Books one resource per attempt: ``train/<run_id>/<attempt>``, whatever is trained.

    A window closes at least every ``meter_interval_s``, so that a long epoch does not look like
    silence. ``idle_flop`` is what a good attempt computes between reports: None when nobody knows.
    """

    idle_flop: int | None = None

    def __init__(self, settings: Settings, datatype: str | None = None) -> None:
        self._settings = settings
        self._datatype = datatype
        self._attempt = 0
        self._booking: Booking | None = None
        self._outcome: Outcome = "ok"
        self._time = ProcessTime(None, 0)

    def open_books(self, charge: Charge, journal_path: Path) -> None:
        """Open the spool in the controller's process; before anything is booked."""
        self._charge = charge
        self._journal = journal_path
        self._writer = producer(self._settings, f"train:{charge.run_id}")

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        """A new attempt: from now on its devices are reserved."""
        self._close("failed")
        self._attempt += 1
        self._outcome = "ok"
        at_us = now_us()
        resource_id = resource_of(self._charge, self._attempt)
        self._booking = Booking(self._writer, self._charge, resource_id, at_us, self._attempt)
        self._time = ProcessTime(None, at_us)
        self._note("attempt_started", at_us)

    def after_worker_group_start(self, worker_group: Any) -> None:
        """The workers exist: from now on their CPU time can be read, if they are on this node."""
        if self._booking is None:
            return
        here = ray.get_runtime_context().get_node_id()
        workers = [worker.metadata for worker in worker_group.get_workers()]
        local = all(worker.node_id == here for worker in workers)
        pids = [worker.pid for worker in workers] if local else None
        self._time = ProcessTime(pids, self._booking.started_us)
        self._booking.meter(energy_account(self._settings, pids or ()))

    def after_worker_group_poll_status(self, worker_group_status: Any) -> None:
        """Close a window that has been open for long."""
        booking = self._booking
        if booking is None:
            return
        if now_us() - booking.booked_until_us >= self._settings.meter_interval_s * 1e6:
            self._note("window", self._window(items=0, flop=self.idle_flop))

    def before_controller_execute_failure_decision(self, failure_decision: Any) -> None:
        """The attempt has failed, whatever is decided about a next one."""
        self._outcome = "failed"

    def after_worker_group_shutdown(self, worker_group_context: Any) -> None:
        """The devices are free again."""
        self._close(self._outcome)

    def after_worker_group_abort(self, worker_group_context: Any) -> None:
        """Somebody pressed Ctrl-C."""
        self._close("cancelled")
        self._last_word()

    def after_controller_finish(self, result: Any) -> None:
        """Whatever is still open has no workers any more."""
        self._close("failed")
        self._last_word()

    def _last_word(self) -> None:
        self._writer.write([self._writer.boot_end(now_us())])

    def _close(self, outcome: Outcome) -> None:
        booking = self._booking
        if booking is None:
            return
        # What a bad attempt did after its last report is not known.
        at_us = self._window(items=0, flop=self.idle_flop if outcome == "ok" else None)
        booking.end(at_us, outcome)
        self._booking = None
        self._note("attempt_ended", at_us, outcome)

    def _window(self, items: int, flop: int | None) -> int:
        """Book up to now; the moment up to which is booked."""
        at_us = now_us()
        if self._booking is None:
            return at_us
        work = Work(items, flop, self._time.growth_us(), self._datatype)
        supply = self._booking.window("train", at_us, work)
        if supply is not None:
            self.booked(supply)
        return self._booking.booked_until_us

    def booked(self, window: SupplyWindow) -> None:
        """A window was written; for those who count along."""

    def _note(
        self, event: journal.Event, at_us: int, outcome: Outcome | None = None
    ) -> None:  # fmt: skip
        self._write(Entry(event, self._attempt, at_us, outcome))

    def _write(self, entry: Entry) -> None:
        journal.append(self._journal, entry)


class LedgerCallback(AttemptCallback):
    """The attempts of a workflow, whose loop reports all of its work.

    Work counts in the window in which it is reported; a window closes at each report.
    ``datatype`` is what the network computes in. ``guard`` is told what is booked, and stops a
    run that has reached one of its limits.
    """

    idle_flop = 0

    def __init__(
        self,
        settings: Settings,
        charge: Charge,
        journal_path: Path,
        datatype: str | None = None,
        guard: Guard | None = None,
    ) -> None:
        super().__init__(settings, datatype)
        self._books = (charge, journal_path)
        self._guard = guard

    def after_controller_start(self, train_run_context: Any) -> None:
        """Open the spool in the controller's process."""
        self.open_books(*self._books)

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        """A new attempt: it counts towards the limits from now on."""
        super().before_worker_group_start(worker_group_context)
        if self._guard is not None and self._booking is not None:
            self._guard.spending.start(self._booking.started_us)

    def after_report(self, training_report: Any, metrics: Sequence[Mapping[str, Any]]) -> None:
        """All workers have come to the same point: book it with its work."""
        flops = [m["flop"] for m in metrics]
        at_us = self._window(
            items=sum(int(m["items"]) for m in metrics),
            flop=None if None in flops else sum(flops),
        )
        first = metrics[0]
        if first["kind"] in ("diverged", "refused"):
            self._outcome = "failed"
            self._write(Entry(first["kind"], self._attempt, at_us, reason=first["reason"]))
            return
        event: journal.Event = "report" if first["kind"] == "epoch" else "checkpoint"
        shown = {name: float(first[name]) for name in SHOWN if name in first}
        self._write(Entry(event, self._attempt, at_us, None, shown, first["points"]))
        if first.get("stopped"):
            self._write(Entry("stopped", self._attempt, at_us, reason=first["stopped"]))

    def after_worker_group_poll_status(self, worker_group_status: Any) -> None:
        """See to the limits, and close a window that has been open for long."""
        if self._guard is not None and self._booking is not None:
            self._guard.look(self._booking.booked_until_us, now_us())
        super().after_worker_group_poll_status(worker_group_status)

    def booked(self, window: SupplyWindow) -> None:
        """Tell the guard."""
        if self._guard is not None:
            self._guard.spending.add(window)
