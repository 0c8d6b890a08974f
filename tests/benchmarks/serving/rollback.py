"""How long a bad version goes on answering after a rollback, at half of the highest rate.

    python -m tests.benchmarks.serving.rollback [--rollbacks 20] [--commands 5]

A platform of its own as ``steelyard up`` starts it, one model with two versions, a replica each.
The highest rate is what wrk reaches over 16 connections; half of it then comes at fixed moments,
whatever is answered. Each time the second version is on its way with half of the traffic, somebody
rolls back: through the service that the command and the API call, timed from the call, and a few
times by typing the command, which is a new Python that imports the platform first. The time ends
with the last answer of the bad version. Everything runs on the same two cores, the load too: it is
Python and takes more of them than wrk, so at half of wrk's rate they may be full (``--rate``).
"""

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from tests.e2e.conftest import Home
from tests.e2e.made_models import classifier, register
from tests.e2e.open_loop import Load
from tests.e2e.under_fire import BODY, OVERRIDE, asked, until

from steelyard.bootstrap import Platform
from steelyard.settings import Settings

MODEL, GOOD, BAD = "back", 1, 2
WRK_S, QUIET_S = 8, 1.5
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


def rolled_back(home: Home, load: Load, call: Callable[[], object]) -> float:
    """Seconds from the call to the last answer of the bad version."""
    plan = home.path / "plan.yaml"
    plan.write_text(yaml.safe_dump(PLAN))
    home.ok("rollout", "start", f"{MODEL}/{BAD}", "--plan", str(plan), *OVERRIDE)
    until("the bad version answers", lambda: _bad_since(load, load.now_s - QUIET_S), 120)
    began_s = load.now_s
    call()
    until("it is quiet", lambda: not _bad_since(load, load.now_s - QUIET_S), 60)
    return max(_bad_since(load, began_s), default=began_s) - began_s


def _bad_since(load: Load, moment_s: float) -> list[float]:
    """When the bad version's answers ended since a moment."""
    found = []
    for answer in reversed(load.answers):  # they are in the order of their ends
        if answer.ended_s < moment_s:
            break
        if answer.headers.get("x-model-version") == str(BAD):
            found.append(answer.ended_s)
    return found


def told(what: str, seconds: list[float]) -> str:
    """A line of the table."""
    ordered = [1e3 * one for one in sorted(seconds)]
    middle, high = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    return (f"{what}: {len(ordered)} times, p50 {middle:.0f} ms, p99 {high:.0f} ms "
            f"({ordered[0]:.0f} to {ordered[-1]:.0f})")  # fmt: skip


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
        with Load(asked(home, MODEL), rate) as load:
            until("answers", lambda: len(load.answers) > rate)
            started = time.monotonic()
            called = [
                rolled_back(home, load, lambda: services.rollouts.rollback(MODEL, "bench", "bad"))
                for _ in range(wanted.rollbacks)
            ]
            typed = [
                rolled_back(home, load, lambda: home.ok("rollback", MODEL))
                for _ in range(wanted.commands)
            ]
            took_s = time.monotonic() - started
        services.engine.dispose()
    print(f"highest rate {highest:.0f} requests/s, asked {rate:.0f}/s for {took_s:.0f} s")
    for what, seconds in (("called", called), ("typed", typed)):
        if seconds:
            print(told(what, seconds))
    print(f"answers {dict(load.statuses)}, slowest {load.slowest_s * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
