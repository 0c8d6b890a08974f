"""What this machine is, as far as it decides how fast a model runs."""

import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from steelyard.domain.model_version import ONNXRUNTIME, OPENVINO, TORCH

FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")
"""What decides how fast INT8 and BF16 are on a CPU."""
THREADS = 1
"""Of a session; a replica is one device of the ledger."""
PROVIDER = "CPUExecutionProvider"
"""onnxruntime's name for the device that computes."""
SESSIONS = {
    ONNXRUNTIME: {"provider": PROVIDER, "threads": str(THREADS)},
    OPENVINO: {"threads": str(THREADS)},
    TORCH: {"threads": str(THREADS)},
}
"""How replicas run a library; one that they do not have says its version alone."""


def hardware_profile(runtime: str = ONNXRUNTIME) -> dict[str, str]:
    """CPU model, its flags that matter, cores, a runtime, its threads. Unknown parts are left out.

    ``runtime`` is the library that computes; where it is not installed, nothing is said of it.
    """
    return {**_machine(), **_runtime(runtime)}


@cache
def _machine() -> dict[str, str]:
    model, flags = _cpu()
    found = {
        "cpu": model,
        "cpu_flags": " ".join(flag for flag in FLAGS if flag in flags),
        "cores": str(os.cpu_count() or ""),
        "machine": platform.machine(),
    }
    return {key: value for key, value in found.items() if value}


@cache
def _runtime(library: str) -> dict[str, str]:
    try:
        return {"runtime": f"{library} {version(library)}", **SESSIONS.get(library, {})}
    except PackageNotFoundError:
        return {}


def _cpu() -> tuple[str, frozenset[str]]:
    information = Path("/proc/cpuinfo")
    if not information.exists():
        return platform.processor(), frozenset()
    rows = [line.partition(":") for line in information.read_text(encoding="utf-8").splitlines()]
    values = {key.strip(): value.strip() for key, _, value in reversed(rows)}
    flags = values.get("flags") or values.get("Features") or ""
    return values.get("model name", platform.processor()), frozenset(flags.split())
