"""Latency at batch 1, all candidates interleaved, so that load on the machine hits them alike."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from steelyard_workflows.evaluation.runtime import logits_of

WARM_UP, CALLS = 20, 300


@dataclass(frozen=True, slots=True)
class Latency:
    """Wall milliseconds of one call."""

    ms_p50: float
    ms_p95: float


def latencies(
    candidates: Mapping[str, onnxruntime.InferenceSession], rows: NDArray[Any]
) -> dict[str, Latency]:
    """Time every candidate on single rows, in turns: first all on one row, then on the next."""
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for call in range(WARM_UP + CALLS):
        at = call % len(rows)
        row = rows[at : at + 1]
        for name, runtime in candidates.items():
            start = time.perf_counter_ns()
            logits_of(runtime, row)
            taken[name].append((time.perf_counter_ns() - start) / 1e6)
    return {name: _latency(values[WARM_UP:]) for name, values in taken.items()}


def _latency(values: list[float]) -> Latency:
    p50, p95 = np.percentile(values, [50, 95])
    return Latency(round(float(p50), 4), round(float(p95), 4))
