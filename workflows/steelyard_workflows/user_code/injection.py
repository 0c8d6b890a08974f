"""An unchanged Ray Train script, metered and tracked: Ray makes one ``Injected`` per trainer.

``RAY_TRAIN_CALLBACKS`` names the class. It is made in the script's process, where it can still
refuse, and works in the trainer's controller, where nothing of ours may end the training: a fault
is told, and the run says that its metering is incomplete.
"""

import math
import os
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.cli.output import note
from steelyard.domain.errors import Unavailable
from steelyard.settings import Settings, load_settings
from steelyard_workflows.booking import journal
from steelyard_workflows.booking.journal import Entry
from steelyard_workflows.booking.metering import charge_for, now_us
from steelyard_workflows.environment import VARIABLES
from steelyard_workflows.tracking import outbox, provenance
from steelyard_workflows.training.callbacks import AttemptCallback, LedgerCallback
from steelyard_workflows.user_code import figures, session

if TYPE_CHECKING:
    from steelyard_workflows.tracking.run import Status
    from steelyard_workflows.user_code.page import Page

KIND = "ray-train-script"
TELEMETRY = "MLFLOW_DISABLE_TELEMETRY"


class Injected(AttemptCallback):
    """Books every attempt of a trainer, and tracks what all its workers report as one run.

    A metric of rank 0 keeps its name, those of other ranks get ``rank_N/`` before it. FLOPs and
    items are unknown unless every worker reports them, as ``flop`` and ``items``.

    Raises:
        InvalidInput: the environment does not say for which model.
        Refused: what is measured could not be written.
    """

    def __init__(self) -> None:
        settings = load_settings()
        self._session = session.from_environment(os.environ)
        session.check_spool(settings)
        super().__init__(settings)
        self._script = Path(sys.argv[0]).name or provenance.UNKNOWN
        self._code = provenance.code(Path.cwd())
        self._active = False
        self._reports = 0
        self._told: set[str] = set()
        self._page: Page | None = None
        self._alive: ExitStack | None = None

    def after_controller_start(self, train_run_context: Any) -> None:
        """Begin the run here: this is the process that books and tracks it."""
        callbacks = train_run_context.run_config.callbacks or ()
        # A workflow of ours keeps its own books.
        self._active = not any(isinstance(one, LedgerCallback) for one in callbacks)
        if not self._safely(self._begin, train_run_context):
            self._active = False

    def _begin(self, context: Any) -> None:
        # Both here: MLflow is imported by no process but this one, and says nothing to its makers.
        os.environ.setdefault(TELEMETRY, VARIABLES[TELEMETRY])
        from steelyard_workflows.user_code.page import Page

        try:
            values = {**self._code, **parameters(context)}
            self._page = Page(self._settings, self._session, KIND, self._script, values)
        except Unavailable as error:
            self._tell(f"the run is metered and not tracked: {error}")
        run_id = self._page.run_id if self._page else uuid.uuid4().hex
        charge = charge_for(self._settings, run_id, self._session.model, 1, self._session.team)
        path = self._settings.checkpoint_dir / run_id / journal.FILE
        self._alive = ExitStack()  # whoever can claim the journal knows that we are gone
        self._alive.enter_context(outbox.claimed(path))
        self.open_books(charge, path)
        place = f"experiment steelyard/{charge.model} of MLflow, " if self._page else ""
        self._tell(f"run {run_id}: {place}run/{run_id} of the ledger")

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        """A new attempt on as many devices as its workers reserve."""
        self._safely(self._start, worker_group_context)

    def _start(self, group: Any) -> None:
        self._charge = replace(self._charge, device_count=self._devices(group))
        session.announce(self._session.folder, self._charge)
        super().before_worker_group_start(group)

    def _devices(self, group: Any) -> int:
        """GPUs where the settings say what one costs, else CPUs; a part of one counts whole."""
        each: Mapping[str, float] = group.resources_per_worker
        workers: int = group.num_workers
        gpus = math.ceil(workers * each.get("GPU", 0))
        if gpus and self._settings.device_model != Settings.model_fields["device_model"].default:
            return gpus
        if gpus:
            self._incomplete("its GPUs are not booked: device_model and price_sku are a CPU's")
        return max(1, math.ceil(workers * each.get("CPU", 1)))

    def after_worker_group_start(self, worker_group: Any) -> None:
        """The workers exist."""
        self._safely(super().after_worker_group_start, worker_group)

    def after_report(self, training_report: Any, metrics: Sequence[Mapping[str, Any]]) -> None:
        """All workers have reported: book the window, and track the figures."""
        self._safely(self._book, metrics)
        self._safely(self._track, metrics)

    def _book(self, metrics: Sequence[Mapping[str, Any]]) -> None:
        at_us = self._window(*figures.work_of(metrics))
        self._write(Entry("report", self._attempt, at_us))

    def _track(self, metrics: Sequence[Mapping[str, Any]]) -> None:
        self._reports += 1
        if self._page is None:
            return
        if self._reports > figures.MOST_REPORTS:
            self._tell(f"only the first {figures.MOST_REPORTS:,} reports are tracked")
            return
        values, faults = figures.joined(metrics)
        for fault in faults:
            self._tell(f"not tracked: {fault}", once=fault.where)
        self._page.metrics([(values, figures.step_of(values, self._reports), now_us())])

    def after_worker_group_poll_status(self, worker_group_status: Any) -> None:
        """Close a window that has been open for long."""
        self._safely(super().after_worker_group_poll_status, worker_group_status)

    def before_controller_execute_failure_decision(self, failure_decision: Any) -> None:
        """The attempt has failed."""
        self._safely(super().before_controller_execute_failure_decision, failure_decision)

    def after_worker_group_shutdown(self, worker_group_context: Any) -> None:
        """The devices are free again."""
        self._safely(super().after_worker_group_shutdown, worker_group_context)

    def after_worker_group_abort(self, worker_group_context: Any) -> None:
        """Somebody pressed Ctrl-C."""
        self._safely(super().after_worker_group_abort, worker_group_context)
        self._safely(self._end, "KILLED")

    def after_controller_finish(self, result: Any) -> None:
        """The training is over, well or not."""
        self._safely(super().after_controller_finish, result)
        self._safely(self._end, "FAILED" if result.error else "FINISHED")

    def _end(self, status: "Status") -> None:
        if self._page is not None:
            self._page.end(status)
        if self._alive is not None:
            self._alive.close()

    def _safely(self, act: Callable[..., None], *words: Any) -> bool:
        """Do it if this run is ours; a fault in it is told and is not the script's."""
        if not self._active:
            return False
        try:
            act(*words)
        except Exception as error:  # whatever it is, the training goes on
            self._incomplete(f"{type(error).__name__}: {error}", once=type(error).__name__)
            return False
        return True

    def _incomplete(self, why: str, once: str = "") -> None:
        if self._tell(f"metering is incomplete: {why}", once) and self._page is not None:
            self._page.incomplete(why)

    def _tell(self, text: str, once: str = "") -> bool:
        """Say it, the first time; whether it was."""
        if (once or text) in self._told:
            return False
        self._told.add(once or text)
        note(f"Steelyard: {text}")
        return True


def parameters(context: Any) -> dict[str, str]:
    """What the script asked of Ray Train: its scaling, and plain values of its loop's config."""
    scaling, config = context.scaling_config, context.train_loop_config or {}
    plain = {k: v for k, v in config.items() if isinstance(v, bool | int | float | str)}
    return {
        "scaling.workers": str(scaling.num_workers),
        "scaling.resources_per_worker": str(scaling.resources_per_worker or "default"),
        "scaling.use_gpu": str(scaling.use_gpu),
        **{f"train_loop_config.{key}": str(value) for key, value in plain.items()},
    }
