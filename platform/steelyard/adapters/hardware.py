"""What this machine is, as far as it decides how fast a model runs."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")
"""What decides how fast INT8 and BF16 are on a CPU."""


def hardware_profile() -> dict[str, str]:
    """CPU model, its flags that matter, cores, runtime and threads. Unknown parts are left out."""
    model, flags = _cpu()
    found = {
        "cpu": model,
        "cpu_flags": " ".join(flag for flag in FLAGS if flag in flags),
        "cores": str(os.cpu_count() or ""),
        "machine": platform.machine(),
        **_runtime(),
    }
    return {key: value for key, value in found.items() if value}


def _runtime() -> dict[str, str]:
    """The runtime that replicas use; a control plane without one does not know."""
    try:
        installed = version("onnxruntime")
    except PackageNotFoundError:
        return {}
    from steelyard.adapters.onnx_session import PROVIDER, THREADS

    return {"runtime": f"onnxruntime {installed}", "provider": PROVIDER, "threads": str(THREADS)}


def _cpu() -> tuple[str, frozenset[str]]:
    information = Path("/proc/cpuinfo")
    if not information.exists():
        return platform.processor(), frozenset()
    rows = [line.partition(":") for line in information.read_text(encoding="utf-8").splitlines()]
    values = {key.strip(): value.strip() for key, _, value in reversed(rows)}
    flags = values.get("flags") or values.get("Features") or ""
    return values.get("model name", platform.processor()), frozenset(flags.split())
