"""What loading a file takes: seconds, and bytes of memory, in a process of its own.

In this process the allocator would give a model the memory of the one before it.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from steelyard.bootstrap import onnx_session

PATIENCE_S = 120
TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16",
         "tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(int8)": "int8",
         "tensor(uint8)": "uint8", "tensor(bool)": "bool"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Footprint:
    """Seconds until a file is ready, and by how many bytes the process grew; None: unknown."""

    load_s: float | None
    memory_bytes: int | None


def measure_footprint(path: Path) -> Footprint:
    """Load a file in a new process, answer one row of zeros, and see how it grew."""
    command = [sys.executable, "-m", "steelyard_workflows.evaluation.footprint", str(path)]
    try:
        said = subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE_S)
        return Footprint(**json.loads(said.stdout))
    except (subprocess.SubprocessError, ValueError, OSError):
        return Footprint(None, None)


def _here(path: Path) -> dict[str, Any]:
    import onnxruntime  # noqa: F401  # its own memory is not the model's

    process = psutil.Process()
    before, started = process.memory_info().rss, time.perf_counter()
    runtime = onnx_session(path.read_bytes())
    load_s = time.perf_counter() - started
    runtime.run(None, {
        one.name: np.zeros([n if type(n) is int else 1 for n in one.shape], TYPES[one.type])
        for one in runtime.get_inputs()
    })  # fmt: skip
    grown = process.memory_info().rss - before
    return {"load_s": round(load_s, 4), "memory_bytes": max(0, grown)}


if __name__ == "__main__":
    print(json.dumps(_here(Path(sys.argv[1]))))
