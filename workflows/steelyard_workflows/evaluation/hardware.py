"""Where a measurement was taken: figures for other hardware are other figures."""

import os
import platform
from pathlib import Path

import onnxruntime

FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")
"""What decides how fast INT8 and BF16 are on a CPU."""


def describe() -> dict[str, str]:
    """CPU model, its flags that matter, cores, runtime and threads. Unknown parts are left out."""
    model, flags = _cpu()
    found = {
        "cpu": model,
        "cpu_flags": " ".join(flag for flag in FLAGS if flag in flags),
        "cores": str(os.cpu_count() or ""),
        "machine": platform.machine(),
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "provider": "CPUExecutionProvider",
        "threads": "1",
        "batch": "1",
    }
    return {key: value for key, value in found.items() if value}


def _cpu() -> tuple[str, frozenset[str]]:
    information = Path("/proc/cpuinfo")
    if not information.exists():
        return platform.processor(), frozenset()
    rows = [line.partition(":") for line in information.read_text(encoding="utf-8").splitlines()]
    values = {key.strip(): value.strip() for key, _, value in reversed(rows)}
    flags = values.get("flags") or values.get("Features") or ""
    return values.get("model name", platform.processor()), frozenset(flags.split())
