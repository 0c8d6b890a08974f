"""Evidence of a network that torch runs in bfloat16, in turns with its parent's ONNX file.

The same questions as of a file (``evaluation.evidence``), with another runtime named. What a
process takes to load it is not known: there is no file that a replica could load.
"""

import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from steelyard.bootstrap import hardware_profile
from steelyard.domain.evidence import Evidence, Figures
from steelyard.domain.evidence_intervals import share_interval
from steelyard_workflows.data import Split
from steelyard_workflows.evaluation import quality
from steelyard_workflows.evaluation.evidence import Measured
from steelyard_workflows.evaluation.runtime import session
from steelyard_workflows.evaluation.speed import measure_speed
from steelyard_workflows.variants import bf16
from steelyard_workflows.variants.kind import Source


def measure(own: Source, split: Split, parent: Path) -> Measured:
    """Quality on all labels of the split and speed on rows of it, beside the parent's file."""
    runtimes = _runtimes(own, parent)
    load_average, labels = os.getloadavg()[0], split.labels.ravel()
    answers = {side: quality.answer(r, split.inputs) for side, r in runtimes.items()}
    timed = measure_speed(runtimes, split.inputs)
    classes = {side: found.classes for side, found in answers.items()}
    lost, won = quality.only_one_right(classes["own"], classes["parent"], labels)
    apart = quality.diverge(runtimes["own"], runtimes["parent"], split.inputs)
    right = int((classes["own"] == labels).sum())
    interval = share_interval(right, len(labels))
    figures = {
        side: Figures(timed.speeds[side],
                      calibration_error=quality.calibration_error(answers[side], labels))
        for side in runtimes
    }  # fmt: skip
    single, before = timed.speeds["own"][0], timed.speeds["parent"][0]
    evidence = Evidence(
        size_bytes=own.path.stat().st_size, accuracy=right / len(labels), examples=len(split),
        latency_ms_p50=single.ms_p50, latency_ms_p95=single.ms_p95, hardware=_hardware(),
        parent_size_bytes=parent.stat().st_size,
        parent_accuracy=quality.accuracy(classes["parent"], labels),
        parent_latency_ms_p50=before.ms_p50, parent_latency_ms_p95=before.ms_p95,
        agreement=quality.agreement(classes["own"], classes["parent"]), data_sha256=split.sha256,
        artifact_sha256=_sha256(own.path), parent_sha256=_sha256(parent), labels=len(labels),
        chance=quality.chance(classes["own"], labels), accuracy_low=interval.low,
        accuracy_high=interval.high, parent_only_right=lost, own_only_right=won,
        kl_mean=apart.kl_mean, cosine_mean=apart.cosine_mean, cosine_min=apart.cosine_min,
        load_average=load_average, own=figures["own"], parent=figures["parent"],
        slices=quality.slices(classes["own"], labels, classes["parent"]),
    )  # fmt: skip
    return Measured(evidence, 2 * (2 * len(split) + timed.inferences))


def _runtimes(own: Source, parent: Path) -> dict[str, Any]:
    """What is registered is what is measured: the weights are read from the file."""
    network = own.recipe.build(own.workflow) if own.network is None else own.network
    plain = network.network if isinstance(network, bf16.Wrapped) else network
    return {"own": bf16.Runtime(bf16.load(plain, own.path)), "parent": session(parent)}


def _hardware() -> dict[str, str]:
    return {**hardware_profile(), "runtime": f"torch {torch.__version__}", "datatype": "bf16"}


def _sha256(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
