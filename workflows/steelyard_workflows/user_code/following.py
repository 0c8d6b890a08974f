"""A plain loop, seen from ``steelyard run``: begun, metered, tracked, and registered at its end.

The loop writes lines into the folder of its session; the run begins with the first of them and
is booked from the start of the process, so that a crash costs what it cost.
"""

import json
import uuid
from pathlib import Path

from steelyard.bootstrap.counting import producer
from steelyard.bootstrap.power import energy_account
from steelyard.cli.output import note
from steelyard.domain.errors import Refused, Unavailable
from steelyard.domain.metering import Outcome
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_workflows.booking.attempts import resource_of
from steelyard_workflows.booking.journal import Entry
from steelyard_workflows.booking.metering import Booking, Work, charge_for, now_us
from steelyard_workflows.tracking import provenance
from steelyard_workflows.tracking.run import Status
from steelyard_workflows.user_code import figures
from steelyard_workflows.user_code.leaving import keep_weights, publish
from steelyard_workflows.user_code.page import Page
from steelyard_workflows.user_code.plain import LINES
from steelyard_workflows.user_code.script import Ended, Script
from steelyard_workflows.user_code.session import Session

KIND = "plain-loop"
SHORTEST_WINDOW_US = 1_000_000
"""A loop may report every step; the ledger gets a window a second at most."""
STATUS: dict[Outcome, Status] = {"ok": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}


class Lines:
    """The lines that a loop has written since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> list[Entry]:
        """Complete ones; none before the loop has spoken."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole = file.read().rpartition(b"\n")[0]
        self._offset += len(whole) + 1 if whole else 0
        return [Entry(**json.loads(line)) for line in whole.splitlines()]


class PlainRun:
    """At most one run: that of the script's own process. Not thread-safe."""

    def __init__(
        self, settings: Settings, session: Session, script: Script, name: str, devices: int
    ) -> None:
        assert session.folder is not None
        self._settings, self._session, self._folder = settings, session, session.folder
        self._script, self._name, self._devices = script, name, devices
        self._lines = Lines(self._folder / LINES)
        self._energy = energy_account(settings, [script.pid])
        self._waiting: list[Entry] = []
        self._unbooked: list[dict[str, float]] = []
        self._reports = 0
        self._booked_cpu_us: int | None = 0
        self._refused: str | None = None
        self._told: set[str] = set()
        self._hopeless = False
        self._booking: Booking | None = None
        self.page: Page | None = None

    def turn(self) -> None:
        """Track what was reported since the last turn, and close a window that is due.

        A fault of ours is told, on standard error and on the run's page, and is not the script's.
        """
        try:
            spoken = self._follow()
            if self.page is not None and self._due(spoken):
                self._book(self._script.cpu_us(), now_us())
        except Exception as error:  # whatever it is, the script goes on
            self._incomplete(error)

    def _follow(self) -> bool:
        """Track what was reported; whether there was something."""
        self._waiting += self._lines.new()
        if self.page is None:
            self.page = self._begun()
        if self.page is None:
            return False
        spoken = self._hear()
        if spoken:
            self.page.metrics(spoken)
        return bool(spoken)

    def _begun(self) -> Page | None:
        """The run, once the loop has spoken and MLflow answers; until then its lines wait."""
        if not self._waiting or self._hopeless:
            return None
        values = {**provenance.code(Path.cwd()), "devices": str(self._devices)}
        try:
            page = Page(self._settings, self._session, KIND, self._name, values)
        except Unavailable:
            return None
        except Exception:
            self._hopeless = True  # else each turn would leave one more run behind
            raise
        note(
            f"Steelyard: run {page.run_id}: experiment steelyard/{self._session.model} of MLflow, "
            f"run/{page.run_id} of the ledger"
        )
        return page

    def _books(self) -> Booking:
        """The attempt, from the start of the process on; opened when something is booked."""
        if self._booking is None:
            run_id = self.page.run_id if self.page else uuid.uuid4().hex
            charge = charge_for(
                self._settings, run_id, self._session.model, self._devices, self._session.team
            )
            self._writer = producer(self._settings, f"script:{run_id}")
            self._booking = Booking(
                self._writer, charge, resource_of(charge, 1),
                self._script.started_us, 1, self._energy,
            )  # fmt: skip
        return self._booking

    def _hear(self) -> list[tuple[figures.Numbers, int, int]]:
        """The reports among what waits, with their steps."""
        heard = []
        for entry in self._waiting:
            if entry.event == "refused":
                self._refused = entry.reason
            elif entry.event == "report":
                self._reports += 1
                values = dict(entry.metrics)
                heard.append((values, figures.step_of(values, self._reports), entry.at_us))
        self._unbooked += [values for values, _, _ in heard]
        self._waiting = []
        return heard

    def _due(self, spoken: bool) -> bool:
        open_us = now_us() - self._books().booked_until_us
        longest = self._settings.meter_interval_s * 1e6
        return open_us >= (min(SHORTEST_WINDOW_US, longest) if spoken else longest)

    def _book(self, cpu_us: int | None, until_us: int) -> None:
        """Close a window; ``cpu_us`` is the process's CPU time so far."""
        before, self._booked_cpu_us = self._booked_cpu_us, cpu_us
        growth = None if cpu_us is None or before is None else max(0, cpu_us - before)
        items, flop = figures.work_of(self._unbooked)
        self._unbooked = []
        self._books().window("train", until_us, Work(items, flop, growth))

    def finish(self, ended: Ended) -> ModelVersion | None:
        """Book the rest with its outcome; what the loop has left becomes a version.

        Raises:
            Refused: the loop ended well, and its network could not be exported.
            Unavailable: MLflow does not answer.
        """
        self._hear_last()
        if not (self.page or self._waiting):
            self._energy.close()
            return None
        self._settle(ended)
        if self.page is None:
            raise Unavailable(
                "The loop is booked and not tracked: MLflow has not taken its run.",
                f"What it said and kept is in {self._folder}; nothing was registered.",
            )
        status: Status = "FAILED"
        try:
            version = self._leave(self.page.run_id, ended)
            status = STATUS[ended.outcome]
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            self.page.end(status)
        return version

    def _hear_last(self) -> None:
        """Track what the loop said before it ended."""
        try:
            self._follow()
        except Exception as error:  # what can be booked still is
            self._incomplete(error)

    def _settle(self, ended: Ended) -> None:
        """Book what is left, with its outcome."""
        self._hear()
        try:
            self._book(ended.cpu_us, ended.at_us)
            booking = self._books()
            booking.end(max(ended.at_us, booking.booked_until_us), ended.outcome)
            self._writer.write([self._writer.boot_end(now_us())])
        except OSError as error:
            self._incomplete(error)

    def _incomplete(self, error: Exception) -> None:
        why = f"{type(error).__name__}: {error}"
        if type(error).__name__ in self._told:
            return
        self._told.add(type(error).__name__)
        note(f"Steelyard: metering is incomplete: {why}")
        if self.page is not None:
            self.page.incomplete(why)

    def _leave(self, run_id: str, ended: Ended) -> ModelVersion | None:
        keep_weights(self._settings, run_id, self._folder)
        if ended.outcome != "ok":
            return None
        if self._refused is not None:
            raise Refused(
                f"The loop ended well, and what it kept is no version: {self._refused}",
                "Its best weights are with the run in MLflow. Nothing was registered.",
            )
        charge = charge_for(self._settings, run_id, self._session.model, 1, self._session.team)
        return publish(self._settings, charge, self._folder)
