"""A script as a child process: started, its signals handed on, what it used when it has ended."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import psutil

from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.metering import Outcome
from steelyard_workflows.booking.metering import now_us

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHELLS = 128
"""A process that a signal ended has this plus the signal's number as its exit code."""
CANCELLED = {SHELLS + number for number in SIGNALS}


@dataclass(frozen=True, slots=True)
class Ended:
    """``code`` is what a shell would see; ``cpu_us`` is the process and what it waited for."""

    code: int
    at_us: int
    cpu_us: int
    interrupted: bool

    @property
    def outcome(self) -> Outcome:
        """Whether it went well; one that failed after a signal was cancelled."""
        if self.code == 0:
            return "ok"
        return "cancelled" if self.interrupted or self.code in CANCELLED else "failed"


class Script:
    """A running script of ours. ``started_us`` is before it was started."""

    def __init__(self, command: Sequence[str], variables: Mapping[str, str]) -> None:
        """Start it, on our terminal and in our process group.

        Raises:
            InvalidInput: there is no such program.
        """
        self.started_us = now_us()
        try:
            self._process = subprocess.Popen(command, env=variables)
        except OSError as error:
            fault = Fault("COMMAND", f"{command[0]} cannot be started: {error.strerror}")
            raise InvalidInput(str(fault), (fault,)) from error
        self.pid = self._process.pid
        self._interrupted = False

    def poll(self) -> Ended | None:
        """How it ended; None while it runs."""
        pid, status, used = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        code = os.waitstatus_to_exitcode(status)
        self._process.returncode = code
        cpu_us = int((used.ru_utime + used.ru_stime) * 1e6)
        shown = code if code >= 0 else SHELLS - code
        return Ended(shown, now_us(), cpu_us, self._interrupted)

    def cpu_us(self) -> int | None:
        """CPU time so far; what a child that still runs used comes when it has ended."""
        try:
            times = psutil.Process(self.pid).cpu_times()
        except psutil.Error:
            return None
        own = times.user + times.system + times.children_user + times.children_system
        return int(own * 1e6)

    @contextmanager
    def signals_handed_on(self) -> Iterator[None]:
        """Signals end the script, not us: what it used is to be booked."""
        before = {number: signal.signal(number, self._hand_on) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hand_on(self, number: int, _: FrameType | None) -> None:
        self._interrupted = True
        # A terminal's Ctrl-C has reached the script already: a second one might be too much.
        if self._process.returncode is None and not (number == signal.SIGINT and _foreground()):
            self._process.send_signal(number)


def _foreground() -> bool:
    """Whether a terminal sends its Ctrl-C to our process group."""
    try:
        with open("/dev/tty", "rb") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False
