"""One version's evidence, measured now and here, beside its parent when it has one."""

from dataclasses import dataclass
from pathlib import Path

from steelyard.domain.model_version import Evidence
from steelyard_workflows.data import Split
from steelyard_workflows.evaluation.hardware import describe
from steelyard_workflows.evaluation.quality import accuracy, agreement
from steelyard_workflows.evaluation.runtime import classes_of, session
from steelyard_workflows.evaluation.speed import CALLS, WARM_UP, latencies


@dataclass(frozen=True, slots=True)
class Measured:
    """The evidence and the inferences that it took, parent included."""

    evidence: Evidence
    inferences: int


def measure(path: Path, split: Split, parent: Path | None = None) -> Measured:
    """Quality on all labels of the split, latency on single rows of it."""
    runtimes = {"own": session(path)}
    if parent is not None:
        runtimes["parent"] = session(parent)
    answers = {name: classes_of(r, split.inputs) for name, r in runtimes.items()}
    speed = latencies(runtimes, split.inputs)
    theirs, before = answers.get("parent"), speed.get("parent")
    evidence = Evidence(
        size_bytes=path.stat().st_size,
        accuracy=accuracy(answers["own"], split.labels),
        examples=len(split),
        latency_ms_p50=speed["own"].ms_p50,
        latency_ms_p95=speed["own"].ms_p95,
        hardware=describe(),
        parent_size_bytes=parent.stat().st_size if parent is not None else None,
        parent_accuracy=accuracy(theirs, split.labels) if theirs is not None else None,
        parent_latency_ms_p50=before.ms_p50 if before is not None else None,
        parent_latency_ms_p95=before.ms_p95 if before is not None else None,
        agreement=agreement(answers["own"], theirs) if theirs is not None else None,
        data_sha256=split.sha256,
    )
    return Measured(evidence, len(runtimes) * (len(split) + WARM_UP + CALLS))
