"""On what a run ran, and from which state of the code: versions, CPU, commit."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("steelyard", "torch", "ray", "mlflow", "onnx", "onnxruntime", "numpy")
UNKNOWN = "unknown"
ANSWER_WITHIN_S = 10.0


def environment() -> dict[str, str]:
    """The driver's Python, packages and processor, for the experiment tracker."""
    found = {f"environment.{name}": _installed(name) for name in PACKAGES}
    return found | {
        "environment.python": platform.python_version(),
        "environment.platform": platform.platform(),
        "environment.cpu": _cpu(),
        "environment.logical_cpus": str(os.cpu_count() or UNKNOWN),
        "environment.threads": os.environ.get("OMP_NUM_THREADS", "not limited"),
    }


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return UNKNOWN


def _cpu() -> str:
    """The processor's name as the kernel tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or UNKNOWN)


def code(folder: Path) -> dict[str, str]:
    """The commit of a working directory, and whether something is not committed.

    Without a repository, or without git, both are unknown.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=normal")
    dirty = UNKNOWN if commit is None or changes is None else str(bool(changes)).lower()
    return {"code.commit": commit or UNKNOWN, "code.dirty": dirty}


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True, text=True, timeout=ANSWER_WITHIN_S, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
