"""HAProxy and the edge in Python before the same replica, and the replica's door without either.

    python tests/benchmarks/serving/edges.py [--rounds 5]

The platform runs as ``steelyard up`` starts it, with HAProxy. The other edge is a process beside
it, with a copy of its maps, so that both ask one replica at one port. They take turns of three
seconds under wrk, at 1, 16 and 64 connections; ratios are taken within a round. The edge's
processor time a request is what other work on the machine moves least.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import ours
import psutil
import report
from alone import alone
from load import Found, Target, check_wrk, full
from networks import Network, networks
from parts import processor_ns
from processes import free_port, running, wait_for

from steelyard_serving.door_ports import LOOPBACK, door_port
from steelyard_serving.edge.files import edge_files

LEVELS, TURN_S = (1, 16, 64), 3
DOOR, HAPROXY, PYTHON = "the replica's door", "HAProxy", "Python"


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn found, and the processor time of the asked process a request."""

    found: Found
    cpu_us: float


Round = dict[tuple[str, int], Turn]


@contextmanager
def python_edge(home: ours.Home, network: Network) -> Iterator[Target]:
    """An edge in Python that has the running platform's maps."""
    folder = Path(tempfile.mkdtemp(prefix="sye-"))
    port, there = free_port(), edge_files(home.settings)
    (folder / "run").mkdir(mode=0o700)
    for path in there.maps:
        shutil.copy(path, folder / "run" / path.name)
    variables = {
        "STEELYARD_HOME": str(folder), "STEELYARD_EDGE": "python", "STEELYARD_EDGE_PORT": str(port),
    }  # fmt: skip
    command = [sys.executable, "-m", "steelyard_serving.python_edge"]
    try:
        with running(command, folder / "edge.log", variables):
            plain = home.target(network)
            yield replace(plain, url=f"http://{LOOPBACK}:{port}/v2/models/{network.name}/infer")
    finally:
        shutil.rmtree(folder)


def turn(target: Target, level: int) -> Turn:
    """Ask for a while, and see what that cost whoever listens there."""
    port = urlsplit(target.url).port
    listening = (one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN)
    pid = max(one.pid or 0 for one in listening if one.laddr and one.laddr.port == port)
    before = processor_ns(pid)
    found = full(target, level, TURN_S)
    return Turn(found, (processor_ns(pid) - before) / 1e3 / (found.requests_per_s * TURN_S))


def turns(ways: dict[str, Target], rounds: int) -> list[Round]:
    """All ways in turns, another one first each round; one round more, which does not count."""
    found, names = [], list(ways)
    for number in range(rounds + 1):
        moved = number % len(names)
        order = names[moved:] + names[:moved]
        found.append({(way, level): turn(ways[way], level)
                      for level in LEVELS for way in order})  # fmt: skip
    return found[1:]


def show(name: str, rounds: Sequence[Round]) -> None:
    """Each way's figures at each level, and the ratio of Python to HAProxy."""
    lines = []
    for level in LEVELS:
        for way in (DOOR, HAPROXY, PYTHON):
            seen = [one[way, level].found for one in rounds]
            ratios = [one.requests_per_s / other[HAPROXY, level].found.requests_per_s
                      for one, other in zip(seen, rounds, strict=True)]  # fmt: skip
            lines.append((
                str(level), way, report.spread([one.requests_per_s for one in seen]),
                report.spread([one.p50_ms for one in seen], "{:.2f}".format),
                report.spread([one.p99_ms for one in seen], "{:.2f}".format),
                report.spread([one[way, level].cpu_us for one in rounds], "{:.0f}".format),
                report.spread(ratios, "{:.2f}".format), str(sum(one.failed for one in seen)),
            ))  # fmt: skip
    head = ("connections", "asked", "requests/s", "p50 ms", "p99 ms", "its processor, µs",
            "it / HAProxy", "failed")  # fmt: skip
    print(f"\n**{name}**\n\n{report.rows(head, lines)}")


def main() -> None:
    """Take turns on a network and print what they say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--network", default="mlp")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "steelyard-bench")
    arguments = parser.parse_args()
    check_wrk()
    (network,) = [one for one in networks(arguments.cache) if one.name == arguments.network]
    expected = {network.name: alone(network)[0]}
    seconds = 60 + 3 * len(LEVELS) * TURN_S * (arguments.rounds + 1)
    print(f"About {seconds / 60:.0f} minutes.", flush=True)
    with ours.home() as home, ours.up(home, [network], expected) as (haproxy,):
        port = door_port(home.settings, network.name, 1)
        door = replace(haproxy, url=f"http://{LOOPBACK}:{port}/v/{network.name}/1/infer")
        with python_edge(home, network) as python:
            wait_for(python, expected[network.name], ours.START_S)
            show(network.name, turns({DOOR: door, HAPROXY: haproxy, PYTHON: python},
                                     arguments.rounds))  # fmt: skip


if __name__ == "__main__":
    main()
