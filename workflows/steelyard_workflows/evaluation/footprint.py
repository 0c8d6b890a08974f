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

import psutil

from steelyard.bootstrap.runtimes import runtime_session, session_class
from steelyard.domain.model_version import ONNXRUNTIME

PATIENCE_S = 120


@dataclass(frozen=True, slots=True)
class Footprint:
    """Seconds until a file is ready, and by how many bytes the process grew; None: unknown."""

    load_s: float | None
    memory_bytes: int | None


def measure_footprint(path: Path, library: str = ONNXRUNTIME) -> Footprint:
    """Load a file in a new process, answer one row of zeros, and see how it grew.

    ``library`` is the replica's that runs it.
    """
    program = "steelyard_workflows.evaluation.footprint"
    command = [sys.executable, "-m", program, str(path), library]
    try:
        said = subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE_S)
        return Footprint(**json.loads(said.stdout))
    except (subprocess.SubprocessError, ValueError, OSError):
        return Footprint(None, None)


def _here(path: Path, library: str) -> dict[str, Any]:
    session_class(library)  # the library's own memory is not the model's
    process = psutil.Process()
    before, started = process.memory_info().rss, time.perf_counter()
    session = runtime_session(library, path.read_bytes())
    load_s = time.perf_counter() - started
    session.run(None, session.zeros())
    grown = process.memory_info().rss - before
    return {"load_s": round(load_s, 4), "memory_bytes": max(0, grown)}


if __name__ == "__main__":
    print(json.dumps(_here(Path(sys.argv[1]), sys.argv[2])))
