"""How long a bad version goes on answering after a rollback, at half of the highest rate.

    python -m tests.benchmarks.serving.rollback [--rollbacks 20] [--commands 5]

A platform of its own as ``steelyard up`` starts it, one model with two versions, a replica each.
The highest rate is what wrk reaches over 16 connections; half of it then comes at fixed moments,
whatever is answered, over 64 connections of a wrk that ``rollback.lua`` paces. Each time the second
version is on its way with half of the traffic, somebody rolls back: through the service that the
command and the API call, timed from the call, and a few times by typing the command, which is a new
Python that imports the platform first. The time ends with the last answer of the bad version.
Everything runs on the same cores, the load too; what it takes of them is told.
"""

import argparse
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml
from tests.e2e.conftest import Home
from tests.e2e.made_models import classifier, register
from tests.e2e.under_fire import BODY, OVERRIDE, asked, until

from steelyard.bootstrap import Platform
from steelyard.settings import Settings

MODEL, GOOD, BAD = "back", 1, 2
WRK_S, QUIET_S = 8, 1.5
CONNECTIONS = 64
PACED = Path(__file__).with_suffix(".lua")
PLAN = {"preset": "fast", "keep_warm": 3600,
        "steps": [{"weight": 50, "bake": 3600}, {"weight": 100}]}  # fmt: skip
SCRIPT = """\
wrk.method = "POST"
wrk.body = '{body}'
wrk.headers["content-type"] = "application/json"
"""


@contextmanager
def platform() -> Iterator[Home]:
    """A home with both versions registered and the good one deployed; all of it ends."""
    with tempfile.TemporaryDirectory(prefix="syb-") as folder:
        home = Home(Path(folder) / "home", hurried=False)
        try:
            home.ok("up")
            made = Platform(Settings(home=home.path))
            for version in (GOOD, BAD):
                register(made, MODEL, classifier(version))
            made.engine.dispose()
            home.ok("deploy", f"{MODEL}/{GOOD}", *OVERRIDE)
            yield home
        finally:
            home.run("down")


def highest_rate(home: Home) -> float:
    """Requests a second that wrk gets answered over 16 connections."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(SCRIPT.format(body=BODY.decode()))
        file.flush()
        command = ["wrk", "-t1", "-c16", f"-d{WRK_S}s", "-s", file.name, asked(home, MODEL).url]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("Requests/sec"))
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise SystemExit(done.stdout)
    return float(line.split()[1])


class Load:
    """A paced wrk; what it prints of each answer is read as it comes."""

    def __init__(self, url: str, rate: float) -> None:
        self._command = [
            "wrk", "-t1", f"-c{CONNECTIONS}", "-d1h", "--timeout", "10s", "-s", str(PACED), url,
            "--", f"{rate:.3f}", BODY.decode(),
        ]  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._bad: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.broken = 0
        self.used_s = self.took_s = 0.0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        self._began_s = time.monotonic()
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.took_s = time.monotonic() - self._began_s
        self._process.send_signal(signal.SIGINT)
        self._reader.join()
        _, status, used = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self.used_s = used.ru_utime + used.ru_stime

    @property
    def answers(self) -> int:
        """How many came."""
        return sum(self.statuses.values())

    def bad_since(self, moment_s: float) -> list[float]:
        """When the bad version's answers ended since a moment of the monotonic clock."""
        newest = self._bad[-20_000:]  # a few seconds of them
        return [ended_s for ended_s in newest if ended_s >= moment_s]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = re.fullmatch(r"([0-9.]+) ([0-9]{3}) (\S+)\n", line)
            if answer is not None:
                self.statuses[answer[2]] += 1
                if answer[3] == str(BAD):
                    self._bad.append(float(answer[1]))
            elif "Socket errors" in line:
                self.broken = sum(int(number) for number in re.findall("[0-9]+", line))


def rolled_back(home: Home, load: Load, call: Callable[[], object]) -> float:
    """Seconds from the call to the last answer of the bad version."""
    plan = home.path / "plan.yaml"
    plan.write_text(yaml.safe_dump(PLAN))
    home.ok("rollout", "start", f"{MODEL}/{BAD}", "--plan", str(plan), *OVERRIDE)
    until("the bad version answers", lambda: load.bad_since(time.monotonic() - QUIET_S), 120)
    began_s = time.monotonic()
    call()
    until("it is quiet", lambda: not load.bad_since(time.monotonic() - QUIET_S), 60)
    return max(load.bad_since(began_s), default=began_s) - began_s


def told(what: str, seconds: list[float]) -> str:
    """A line of the table."""
    ordered = [1e3 * one for one in sorted(seconds)]
    middle, high = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    return (f"{what}: {len(ordered)} times, p50 {middle:.0f} ms, p99 {high:.0f} ms "
            f"({ordered[0]:.0f} to {ordered[-1]:.0f}), within a second "
            f"{sum(one < 1_000 for one in ordered)}")  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollbacks", type=int, default=20)
    parser.add_argument("--commands", type=int, default=5)
    parser.add_argument("--rate", type=float, help="requests a second in place of the half")
    wanted = parser.parse_args()
    with platform() as home:
        highest = highest_rate(home)
        rate = wanted.rate or highest / 2
        services = Platform(Settings(home=home.path))
        with Load(asked(home, MODEL).url, rate) as load:
            until("answers", lambda: load.answers > rate)
            called = [
                rolled_back(home, load, lambda: services.rollouts.rollback(MODEL, "bench", "bad"))
                for _ in range(wanted.rollbacks)
            ]
            typed = [
                rolled_back(home, load, lambda: home.ok("rollback", MODEL))
                for _ in range(wanted.commands)
            ]
        services.engine.dispose()
    print(f"highest rate {highest:.0f} requests/s, asked {rate:.0f}/s for {load.took_s:.0f} s, "
          f"answered {load.answers / load.took_s:.0f}/s")  # fmt: skip
    for what, seconds in (("called", called), ("typed", typed)):
        if seconds:
            print(told(what, seconds))
    print(f"answers by status {dict(load.statuses)}, without an answer {load.broken}")
    print(f"the load took {load.used_s / load.took_s:.0%} of a core, "
          f"load average {os.getloadavg()[2]:.1f} over 15 minutes")  # fmt: skip


if __name__ == "__main__":
    main()
