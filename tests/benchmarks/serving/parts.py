"""What audit, metering and limits cost a served model: requests/s with a part, and without it.

    python tests/benchmarks/serving/parts.py [--rounds 10]

The product has no switch for audit and metering. So one replica, on a platform that runs as
``steelyard up`` starts it, holds a way without each part, and a header says which one answers
(``servers/rig.py``). The ways take turns of two seconds under wrk with sixteen connections, at the
replica's door: past the edge, whose time would make every share smaller. Limits are the key's check
and its two counts; the edge's own limit is not among them. The look for near duplicates is a key's,
too: without limits there is none.

The replica's processor time a request is the figure to trust: it holds the write to the disk that
a turn causes, and what else the machine does moves it less.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.request import urlopen

import ours
import psutil
import report
from alone import alone
from load import Target, check_wrk, full
from networks import Network, networks
from processes import wait_for

from steelyard_serving.door_ports import LOOPBACK, door_port

CONNECTIONS, TURN_S = 16, 2
SWITCH = "x-bench-without"
WAYS = ("nothing", "audit", "audit and metering", "near", "near and limits", "all four")
UNCHECKED = ("near and limits", "all four")
PAIRS = {
    "audit": ("nothing", "audit", 0.95),
    "metering": ("audit", "audit and metering", 0.95),
    "limits": ("near", "near and limits", 0.95),
    "audit, metering and limits": ("near", "all four", 0.90),
    "near duplicates": ("nothing", "near", None),
    "all four": ("nothing", "all four", None),
}
"""Each part's way with it and way without it, and the least ratio that is aimed at, if one is."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn found: requests a second, and the replica's processor time of each."""

    requests_per_s: float
    cpu_us: float


def processor_ns(pid: int) -> int:
    """Processor time of a process, all its threads: Linux' clock with the id of the process."""
    return time.clock_gettime_ns((~pid << 3) | 2)


def turn(target: Target, pid: int, flush: str) -> Turn:
    """Ask for a while; what waits to be written is written within the turn."""
    before = processor_ns(pid)
    found = full(target, CONNECTIONS, TURN_S)
    if found.failed:
        raise RuntimeError(f"{found.failed} requests failed")
    with urlopen(flush, timeout=30) as answer:
        answer.read()
    asked = found.requests_per_s * TURN_S
    return Turn(found.requests_per_s, (processor_ns(pid) - before) / 1e3 / asked)


def replica(network: Network) -> int:
    """The rig's process, by the title that Ray gives it."""
    title = f"ray::ServeReplica:rig_{network.name}:"
    (pid,) = [one.pid for one in psutil.process_iter(["cmdline"])
              if " ".join(one.info["cmdline"] or ()).startswith(title)]  # fmt: skip
    return pid


def turns(home: ours.Home, network: Network, rounds: int) -> list[dict[str, Turn]]:
    """All ways in turns, another one first each round; one round more, which does not count."""
    port = door_port(home.settings, f"rig-{network.name}", 1)
    rig = f"http://{LOOPBACK}:{port}/v/rig-{network.name}/1"
    plain = replace(home.target(network), url=f"{rig}/infer")
    # Where keys are not checked, one that nobody knows would be refused.
    keys = {way: {} if way in UNCHECKED else home.headers for way in WAYS}
    ways = {way: replace(plain, headers={**keys[way], SWITCH: way}) for way in WAYS}
    for target in ways.values():
        wait_for(target, alone(network)[0], ours.START_S)
    pid, found = replica(network), []
    for number in range(rounds + 1):
        moved = number % len(WAYS)
        order = WAYS[moved:] + WAYS[:moved]
        found.append({way: turn(ways[way], pid, f"{rig}/flush") for way in order})
    return found[1:]


def show(name: str, rounds: Sequence[dict[str, Turn]]) -> None:
    """Each way's figures, and each part's ratios."""
    ways = [
        (
            way,
            report.spread([one[way].requests_per_s for one in rounds]),
            report.spread([one[way].cpu_us for one in rounds], "{:.0f}".format),
        )
        for way in WAYS
    ]
    print(f"\n**{name}, {CONNECTIONS} connections**\n")
    print(report.rows(("without", "requests/s", "µs of the replica's processor"), ways))
    lines = []
    for part, (on, off, aim) in PAIRS.items():
        speed = [one[on].requests_per_s / one[off].requests_per_s for one in rounds]
        time_of = [one[off].cpu_us / one[on].cpu_us for one in rounds]
        told, said = "", ""
        if aim is not None:
            told, said = f"≥ {aim:.2f}", "holds" if statistics.median(speed) >= aim else "**fails**"
        lines.append((part, told, report.spread(speed, "{:.3f}".format),
                      report.spread(time_of, "{:.3f}".format), said))  # fmt: skip
    head = ("on / off", "aim", "requests/s", "by processor time", "")
    print(f"\n{report.rows(head, lines)}")


def main() -> None:
    """Take turns on each network and print what they say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--networks", nargs="+", default=["mlp", "resnet8"])
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "steelyard-bench")
    arguments = parser.parse_args()
    check_wrk()
    served = [one for one in networks(arguments.cache) if one.name in arguments.networks]
    seconds = 90 + len(served) * len(WAYS) * (TURN_S + 0.5) * (arguments.rounds + 1)
    print(f"About {seconds / 60:.0f} minutes.", flush=True)
    expected = {one.name: alone(one)[0] for one in served}
    with ours.home() as home, ours.up(home, served, expected):
        print("The platform is up.", flush=True)
        home.script("rig.py", *(one.name for one in served))
        print("The rig is up.", flush=True)
        for network in served:
            show(network.name, turns(home, network, arguments.rounds))


if __name__ == "__main__":
    main()
