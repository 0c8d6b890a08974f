"""What it takes Python to say which version a unit gets: for batches and streams, not the edge.

    python tests/benchmarks/routing.py

The edge chooses in C. Whoever scores a table or a stream asks the twin of its bucket function for
every row: units as services have them (UUIDs, e-mail addresses, one longer than a hash block), and
weight tables with one candidate and with four. Each figure is of rounds of 20,000 calls; wall time
counts what other processes do, so the aim is held against processor time.
"""

import statistics
import time
import uuid
from collections.abc import Callable, Sequence

from steelyard.domain.traffic import Route, Share, bucket, choose

ROUNDS, CALLS, AIM_US = 25, 20_000, 20.0
SECRET, LINEAGE = bytes(range(32)), "0123456789ab"
ONE = Route("m", 1, 7, (Share(2, 0, 500),), LINEAGE)
FOUR = Route("m", 1, 7, tuple(Share(2 + n, 2_500 * n, 500) for n in range(4)), LINEAGE)
UNITS = {
    "UUIDs": [str(uuid.UUID(int=n << 64 | 7)) for n in range(CALLS)],
    "e-mail addresses": [f"customer.{n}@example.com" for n in range(CALLS)],
    "200 characters": [f"{n:0200}" for n in range(CALLS)],
}


def measured(act: Callable[[str], object], units: Sequence[str]) -> tuple[list[float], list[float]]:
    """Processor and wall microseconds of a call, by round, after one that does not count."""
    cpu, wall = [], []
    for _ in range(ROUNDS + 1):
        before, start = time.process_time(), time.perf_counter()
        for unit in units:
            act(unit)
        wall.append((time.perf_counter() - start) / len(units) * 1e6)
        cpu.append((time.process_time() - before) / len(units) * 1e6)
    return cpu[1:], wall[1:]


def show(name: str, act: Callable[[str], object], units: Sequence[str]) -> float:
    """Print the median of the rounds with least and most; returns the most processor time."""
    cpu, wall = measured(act, units)
    print(f"{name:<35} processor {_spread(cpu)}, wall {_spread(wall)}", flush=True)
    return max(cpu)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):5.2f} µs ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Print every figure, and whether the slowest round kept the aim."""
    worst = 0.0
    for name, units in UNITS.items():
        worst = max(worst, show(f"bucket, {name}", lambda u: bucket(SECRET, LINEAGE, u), units))
    for name, route in (("one candidate", ONE), ("four candidates", FOUR)):
        chosen = show(
            f"bucket and choice, {name}",
            lambda unit, route=route: choose(route, bucket(SECRET, LINEAGE, unit)),  # type: ignore[misc]
            UNITS["UUIDs"],
        )
        worst = max(worst, chosen)
    verdict = "within" if worst < AIM_US else "NOT within"
    print(f"processor time of the slowest round is {verdict} {AIM_US:g} µs")


if __name__ == "__main__":
    main()
