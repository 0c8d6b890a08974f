"""Steelyard beside its peers: the same ONNX files, the same numbers asked, the same generator.

    python tests/benchmarks/serving/compare.py [--rounds 3] [--seconds 5]

Needs wrk. The first time, the peers are installed into ``--cache``, a virtual environment each.
Everything runs on two cores, the generator too. In each round every contender is started, asked at
each number of connections, and ended, one after the other, the order moved on by one each round;
nothing else of theirs runs meanwhile. Each answers like onnxruntime in process, or the run ends.

Steelyard runs as ``steelyard up`` starts it, with metering, audit, and keys with limits. The bare
handler is what Ray Serve's fast way gives to who checks, counts and records nothing: its HAProxy
goes straight to the replica. A ratio is Steelyard's through the edge to the bare handler's.
"""

import argparse
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import ours
import peers
import report
from alone import alone
from load import Found, Target, at_rate, check_wrk, full
from networks import Network, networks

CONNECTIONS = (1, 16, 64)
CORES = 2
WARM_UP_S, HALF_S = 1, 5
START_S = {
    "ours": 60,
    "tuned": 25,
    "ray": 25,
    "bentoml": 5,
    "litserve": 5,
    "mlserver": 5,
    "mlflow": 15,
}
"""What starting and ending took on two cores, for the estimate beforehand."""

Group = tuple[str, Callable[[], AbstractContextManager[list[Target]]]]
"""What is started and ended together."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long it is measured."""

    rounds: int
    seconds: int

    def minutes(self, served: int) -> float:
        """An estimate of all of it."""
        targets = served * (len(peers.PEERS) + 3)
        load = targets * (len(CONNECTIONS) * self.seconds + WARM_UP_S) + served * HALF_S
        starts = sum(seconds * (1 if name in ("ours", "tuned", "ray") else served)
                     for name, seconds in START_S.items())  # fmt: skip
        return self.rounds * (load + starts) / 60


def groups(
    cache: Path, served: Sequence[Network], home: ours.Home, expected: peers.Expected
) -> Iterator[Group]:
    """All contenders: Steelyard, Ray Serve in two ways, each peer for each network."""
    yield "Steelyard", partial(ours.up, home, served, expected)
    yield "Ray Serve, tuned", partial(peers.tuned_ray, cache, served, expected)
    yield "Ray Serve", partial(peers.plain_ray, cache, served, expected)
    for network in served:
        for one in peers.PEERS:
            yield (
                f"{one.label}, {network.name}",
                partial(peers.peer, one, cache, network, expected),
            )


def measured(
    order: Sequence[Group], seconds: int, in_process_ms: dict[str, float], backwards: bool
) -> report.Measured:
    """One round. What is up together takes turns at each level, every second round backwards."""
    found: dict[tuple[str, report.Level], Found] = {}
    half: dict[str, Found] = {}
    for name, start in order:
        began = time.monotonic()
        with start() as targets:
            print(f"  {name}: up after {time.monotonic() - began:.0f} s", flush=True)
            for target in targets:
                full(target, CONNECTIONS[1], WARM_UP_S)
            for connections in CONNECTIONS:
                for target in reversed(targets) if backwards else targets:
                    one = full(target, connections, seconds)
                    found[target.contender, (target.network, connections)] = one
                    _tell(target, connections, one)
            half |= {target.network: at_rate(target, _most(found, target) / 2, HALF_S)
                     for target in targets if target.contender == ours.OURS}  # fmt: skip
    return report.Measured(found, in_process_ms, half)


def _most(found: Mapping[tuple[str, report.Level], Found], target: Target) -> float:
    return max(found[target.contender, (target.network, n)].requests_per_s for n in CONNECTIONS)


def _tell(target: Target, connections: int, one: Found) -> None:
    print(f"    {target.contender}, {target.network}, c={connections}: "
          f"{one.requests_per_s:,.0f}/s, p50 {one.p50_ms:.2f} ms, p99 {one.p99_ms:.2f} ms, "
          f"{one.failed} failed", flush=True)  # fmt: skip


def show(rounds: Sequence[report.Measured], served: Sequence[Network]) -> None:
    """All tables, and what everything was."""
    levels = [(one.name, connections) for one in served for connections in CONNECTIONS]
    print(f"\n{versions()}")
    for name in (one.name for one in served):
        calls = [one.in_process_ms[name] for one in rounds]
        print(f"\nonnxruntime in process, {name}: p50 {report.spread(calls, '{:.3f}'.format)} ms")
    for level in levels:
        print(f"\n**{level[0]}, {level[1]} connections**\n")
        print(report.speed(rounds, ours.OURS, level))
    known = [one.label for one in peers.PEERS] + [peers.RAY_LABEL]
    print("\n**Aims**\n")
    print(report.claims(rounds, ours.OURS, peers.BARE, known, levels))


def versions() -> str:
    """Contenders, runtime and generator."""
    said = [f"{one.label} {one.version()}" for one in peers.PEERS]
    said += [f"Ray {peers.ray_version()}", f"onnxruntime {version('onnxruntime')} everywhere"]
    wrk = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    return f"{', '.join(said)}; {(wrk.stdout + wrk.stderr).splitlines()[0].partition(' Copy')[0]}"


def main() -> None:
    """Measure all rounds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--networks", nargs="+", default=["mlp", "resnet8"])
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "steelyard-bench")
    arguments = parser.parse_args()
    check_wrk()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    served = [one for one in networks(arguments.cache) if one.name in arguments.networks]
    peers.prepare(arguments.cache)
    plan = Plan(arguments.rounds, arguments.seconds)
    print(f"About {plan.minutes(len(served)):.0f} minutes.", flush=True)
    rounds = []
    with ours.home() as home:
        for number in range(plan.rounds):
            known = {one.name: alone(one) for one in served}
            expected = {name: answer for name, (answer, _) in known.items()}
            order = list(groups(arguments.cache, served, home, expected))
            moved = number % len(order)
            print(f"Round {number + 1} of {plan.rounds}", flush=True)
            figures = {name: milliseconds for name, (_, milliseconds) in known.items()}
            rounds.append(
                measured(order[moved:] + order[:moved], plan.seconds, figures, number % 2 == 1)
            )
    show(rounds, served)


if __name__ == "__main__":
    main()
