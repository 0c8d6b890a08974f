"""Speed at batch 1 and 32, the candidates in turns, so that load on the machine hits them alike.

What is timed is a replica's call of its runtime on rows in memory. Reading and writing JSON, the
network and waiting for a free replica are not in it: they are the same for every variant.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.domain.evidence import Speed
from steelyard_workflows.evaluation.runtime import Runtime

WARM_UP = 5
CALLS = {1: 300, 32: 60}
"""How often each batch size is timed."""
ENOUGH_S, ENOUGH_CALLS = 10.0, 20
"""A slow model is timed for so long, but never less often."""


@dataclass(frozen=True, slots=True)
class Timed:
    """The speeds of each candidate, and how many rows it answered for them."""

    speeds: Mapping[str, tuple[Speed, ...]]
    inferences: Mapping[str, int]


def measure_speed(candidates: Mapping[str, Runtime], rows: NDArray[Any]) -> Timed:
    """Time every candidate on the same rows; single rows first, then batches.

    A candidate that takes one batch size has no speed at the other.
    """
    found: dict[str, list[Speed]] = {name: [] for name in candidates}
    inferences = dict.fromkeys(candidates, 0)
    for batch, calls in CALLS.items():
        able = {name: one for name, one in candidates.items() if one.batch in (None, batch)}
        taken = _times(able, _batches(rows, batch), calls)
        for name, times in taken.items():
            found[name].append(_speed(batch, times))
            inferences[name] += batch * (WARM_UP + len(times))
    return Timed({name: tuple(speeds) for name, speeds in found.items()}, inferences)


def _batches(rows: NDArray[Any], batch: int) -> list[NDArray[Any]]:
    """Different rows for each call; a short data set is repeated."""
    starts = range(0, max(1, len(rows) - batch + 1), batch)
    return [np.resize(rows[start : start + batch], (batch, *rows.shape[1:])) for start in starts]


def _times(
    candidates: Mapping[str, Runtime], batches: list[NDArray[Any]], calls: int
) -> dict[str, NDArray[np.int64]]:
    """Wall and CPU nanoseconds of each call; a runtime may compute in threads of its own."""
    for runtime in candidates.values():
        for call in range(WARM_UP):
            runtime.answer(batches[call % len(batches)])
    taken: dict[str, list[tuple[int, int]]] = {name: [] for name in candidates}
    enough_ns = time.perf_counter_ns() + int(ENOUGH_S * 1e9)
    for call in range(calls):
        if call >= ENOUGH_CALLS and time.perf_counter_ns() > enough_ns:
            break
        for name, runtime in candidates.items():
            wall, cpu = time.perf_counter_ns(), time.process_time_ns()
            runtime.answer(batches[call % len(batches)])
            cpu = time.process_time_ns() - cpu
            taken[name].append((time.perf_counter_ns() - wall, cpu))
    return {name: np.array(values, np.int64) for name, values in taken.items()}


def _speed(batch: int, times: NDArray[np.int64]) -> Speed:
    p50, p95, p99 = (round(float(v) / 1e6, 4) for v in np.percentile(times[:, 0], [50, 95, 99]))
    cpu_ms = float(np.median(times[:, 1])) / 1e6 / batch
    return Speed(batch, p50, p95, p99, round(cpu_ms, 5))
