"""The supervisor: owns every process that ``steelyard up`` starts.

It starts them in order of health, restarts what exits or stops answering with a growing pause,
and stops them in reverse. Each process leads its own session and carries the home in its
environment (``STEELYARD_SUPERVISED``), so that even after ``kill -9`` of the supervisor the next
start finds and ends exactly what is left of this home, and nothing else.
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from steelyard.adapters.tls import anybody
from steelyard.domain.errors import Unavailable
from steelyard.domain.supervision import Probe, ProcessSpec, backoff_s

MARK = "STEELYARD_SUPERVISED"
POLL_S = 0.2
PROBE_EVERY_S = 1.0
UNHEALTHY_AFTER = 5
"""Failed probes in a row after which a process that worked is restarted."""
LOG_LIMIT = 16 * 2**20
State = Literal["waiting", "starting", "healthy", "backing off", "stopped"]


@dataclass
class Child:
    """One supervised process and how it is."""

    spec: ProcessSpec
    state: State = "waiting"
    pid: int | None = None
    restarts: int = 0
    failures: int = 0
    bad_probes: int = 0
    since: float = 0.0
    next_at: float = 0.0
    process: "subprocess.Popen[bytes] | None" = None


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """What ``steelyard status`` shows of one process."""

    name: str
    state: State
    pid: int | None
    restarts: int


class Supervisor:
    """Runs in a process of its own (``run``); other processes ask and stop it through files."""

    def __init__(self, home: Path, run_dir: Path, log_dir: Path) -> None:
        self._home = home
        self._run_dir = run_dir
        self._log_dir = log_dir
        self._record = run_dir / "supervisor.json"

    # What other processes call.

    def status(self) -> list[ProcessStatus] | None:
        """The processes of the running supervisor; None when none runs."""
        record = self._read()
        if record is None or not _is(record["pid"], record["created"]):
            return None
        return [ProcessStatus(**row) for row in record["processes"]]

    def spawn(self) -> None:
        """Start a supervisor in the background; its output goes to ``supervisor.log``."""
        for folder in (self._run_dir, self._log_dir):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        command = [sys.executable, "-m", "steelyard.cli.supervise"]
        with self._log("supervisor").open("ab") as log:
            subprocess.Popen(
                command, env={**os.environ, MARK: str(self._home)}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def stop(self, timeout_s: float = 60.0) -> bool:
        """Stop the supervisor and all it started; False when nothing ran."""
        record = self._read()
        ran = record is not None and _is(record["pid"], record["created"])
        if record is not None and ran:
            process = psutil.Process(record["pid"])
            process.terminate()
            try:
                process.wait(timeout_s)
            except psutil.TimeoutExpired:
                process.kill()
        strays = self.end_strays()
        self._record.unlink(missing_ok=True)
        return ran or strays > 0

    def end_strays(self) -> int:
        """End processes of this home that outlived their supervisor; how many there were."""
        strays = [p for p in psutil.process_iter() if _mark(p) == str(self._home)]
        strays = [p for p in strays if p.pid != os.getpid()]
        for process in strays:
            _quietly(process.terminate)
        _, alive = psutil.wait_procs(strays, timeout=5)
        for process in alive:
            _quietly(process.kill)
        psutil.wait_procs(alive, timeout=5)
        return len(strays)

    def log_tail(self, name: str, lines: int = 15) -> str:
        """The end of a process's log."""
        path = self._log(name)
        text = path.read_text(errors="replace") if path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    # What the supervisor's own process does.

    def run(self, specs: Sequence[ProcessSpec]) -> None:
        """Keep the processes running until SIGTERM or SIGINT, then stop them in reverse order.

        Raises:
            Unavailable: another supervisor has this home.
        """
        with (self._run_dir / "supervisor.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Unavailable(f"Another supervisor runs {self._home}.") from error
            self._keep_running(specs)

    def _keep_running(self, specs: Sequence[ProcessSpec]) -> None:
        children = [Child(spec) for spec in specs]
        stopping: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda received, _: stopping.append(received))
        try:
            while not stopping:
                for child in children:
                    self._tend(child, children)
                self._write(children)
                time.sleep(POLL_S)
        finally:
            for child in reversed(children):
                _end(child)
                self._write(children)
            self.end_strays()

    def _tend(self, child: Child, children: Sequence[Child]) -> None:
        now = time.monotonic()
        if child.process is not None and child.process.poll() is not None:
            self._failed(child, now, f"exited with {child.process.returncode}")
        elif child.state in ("waiting", "backing off"):
            healthy = {c.spec.name for c in children if c.state == "healthy"}
            started_before = child.restarts > 0
            if now >= child.next_at and (started_before or healthy >= set(child.spec.after)):
                self._start(child, now)
        elif now >= child.next_at:
            self._probe(child, now)

    def _start(self, child: Child, now: float) -> None:
        path = self._log(child.spec.name)
        if path.exists() and path.stat().st_size > LOG_LIMIT:
            path.replace(path.with_suffix(".log.1"))
        environment = {**os.environ, **child.spec.environment, MARK: str(self._home)}
        with path.open("ab") as log:
            child.process = subprocess.Popen(
                child.spec.command, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        child.pid, child.state, child.since = child.process.pid, "starting", now
        child.bad_probes, child.next_at = 0, now + POLL_S

    def _probe(self, child: Child, now: float) -> None:
        child.next_at = now + (PROBE_EVERY_S if child.state == "healthy" else POLL_S)
        if answers(child.spec.probe) and (child.spec.probe or now - child.since >= 1.0):
            child.state, child.bad_probes = "healthy", 0
            if now - child.since > 60:
                child.failures = 0
        elif child.state == "healthy":
            child.bad_probes += 1
            if child.bad_probes >= UNHEALTHY_AFTER:
                self._failed(child, now, "does not answer")
        elif now - child.since > child.spec.start_timeout_s:
            self._failed(child, now, "did not start in time")

    def _failed(self, child: Child, now: float, what: str) -> None:
        _end(child)
        child.failures += 1
        child.restarts += 1
        wait = backoff_s(child.failures)
        child.state, child.next_at = "backing off", now + wait
        print(f"{child.spec.name} {what}; restart in {wait:g} s", flush=True)

    def _log(self, name: str) -> Path:
        return self._log_dir / f"{name}.log"

    def _read(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self._record.read_text())
            return found
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def _write(self, children: Sequence[Child]) -> None:
        rows = [asdict(ProcessStatus(c.spec.name, c.state, c.pid, c.restarts)) for c in children]
        text = json.dumps(
            {"pid": os.getpid(), "created": psutil.Process().create_time(), "processes": rows}
        )
        if self._record.exists() and self._record.read_text() == text:
            return
        partial = self._record.with_suffix(".partial")
        partial.write_text(text)
        partial.replace(self._record)


def check_ports(specs: Sequence[ProcessSpec]) -> None:
    """Refuse to start on a port that somebody else uses, naming the setting to change.

    Raises:
        Unavailable: with every taken port.
    """
    taken = []
    for spec in specs:
        for setting, (host, port) in spec.ports.items():
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host, port))
                except OSError:
                    taken.append(f"{port} ({setting}, for {spec.name})")
    if taken:
        raise Unavailable(
            f"Ports are in use: {', '.join(taken)}.",
            "Stop what uses them, or set others, e.g. STEELYARD_EDGE_PORT.",
        )


def answers(probe: Probe | None) -> bool:
    """Whether a process answers its probe; without one, being alive is enough."""
    if probe is None:
        return True
    try:
        if probe.address is not None:
            socket.create_connection(probe.address, timeout=1).close()
        if probe.url is not None:
            # Asked is whether it lives. Not who it is: a certificate may be of any name, or old.
            urllib.request.urlopen(probe.url, timeout=2, context=anybody()).close()
    except (OSError, urllib.error.URLError):
        return False
    return True


def _end(child: Child) -> None:
    """Stop a process and everything below it: politely first, then for good."""
    process = child.process
    if process is None:
        return
    below: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        below = psutil.Process(process.pid).children(recursive=True)
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(child.spec.stop_timeout_s)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for descendant in below:
        _quietly(descendant.kill)
    child.process, child.pid, child.state = None, None, "stopped"


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None


def _is(pid: int, created: float) -> bool:
    try:
        return abs(psutil.Process(pid).create_time() - created) < 0.01
    except psutil.NoSuchProcess:
        return False


def _quietly(act: Callable[[], None]) -> None:
    with suppress(psutil.NoSuchProcess):
        act()
