"""One version's evidence, measured now and here, beside its parent when it has one."""

import os
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from steelyard.bootstrap import hardware_profile
from steelyard.domain.energy import LoadModel
from steelyard.domain.evidence import Evidence, Figures, Speed
from steelyard.domain.evidence_intervals import share_interval
from steelyard_workflows.data import Split
from steelyard_workflows.evaluation import quality
from steelyard_workflows.evaluation.footprint import measure_footprint
from steelyard_workflows.evaluation.quality import Answers
from steelyard_workflows.evaluation.runtime import session
from steelyard_workflows.evaluation.speed import measure_speed
from steelyard_workflows.evaluation.weights import count_weights

if TYPE_CHECKING:
    import onnxruntime

LOADING = 1
"""Rows that measuring a footprint answers."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The evidence and the inferences that it took, parent included."""

    evidence: Evidence
    inferences: int


def measure(
    path: Path, split: Split, parent: Path | None = None, power: LoadModel | None = None
) -> Measured:
    """Quality on all labels of the split, speed on rows of it, what the files take.

    ``power`` is the declared power of the device that computes; without it energy is unknown.
    """
    files = {"own": path} | ({"parent": parent} if parent is not None else {})
    runtimes = {side: session(file) for side, file in files.items()}
    load_average = os.getloadavg()[0]
    answers = {side: quality.answer(r, split.inputs) for side, r in runtimes.items()}
    timed = measure_speed(runtimes, split.inputs)
    figures = {
        side: _figures(files[side], timed.speeds[side], answers[side], split, power)
        for side in files
    }
    evidence = _alone(path, split, answers["own"], figures["own"], load_average)
    if parent is not None:
        evidence = _beside(evidence, parent, split, answers, figures["parent"], runtimes)
    # A comparison answers every row once more.
    passes = 1 if parent is None else 2
    inferences = len(files) * (passes * len(split) + LOADING) + timed.inferences * len(files)
    return Measured(evidence, inferences)


def _figures(
    path: Path, speeds: tuple[Speed, ...], answers: Answers, split: Split, power: LoadModel | None
) -> Figures:
    footprint, weights = measure_footprint(path), count_weights(path)
    energy = energy_mj(speeds[0].cpu_ms_per_row, power)
    return Figures(
        speeds=speeds,
        load_s=footprint.load_s,
        memory_bytes=footprint.memory_bytes,
        parameters=weights.parameters,
        nonzero=weights.nonzero,
        energy_mj=energy,
        energy_method=None if energy is None else "modelled_load",
        calibration_error=quality.calibration_error(answers, split.labels.ravel()),
    )


def energy_mj(cpu_ms: float, power: LoadModel | None) -> float | None:
    """Energy of a device that works for so long, in millijoules: an estimate, by the load model.

    >>> from fractions import Fraction
    >>> energy_mj(2.0, LoadModel(Fraction(1), Fraction(5), ()))
    10.0
    """
    return None if power is None else float(power.max_w) * cpu_ms


def _alone(
    path: Path, split: Split, answers: Answers, figures: Figures, load_average: float
) -> Evidence:
    labels = split.labels.ravel()
    right = int((answers.classes == labels).sum())
    interval = share_interval(right, len(labels))
    single = figures.speeds[0]
    return Evidence(
        size_bytes=path.stat().st_size,
        accuracy=right / len(labels),
        examples=len(split),
        latency_ms_p50=single.ms_p50,
        latency_ms_p95=single.ms_p95,
        hardware=hardware_profile(),
        data_sha256=split.sha256,
        artifact_sha256=_sha256(path),
        labels=len(labels),
        chance=quality.chance(answers.classes, labels),
        accuracy_low=interval.low,
        accuracy_high=interval.high,
        load_average=load_average,
        own=figures,
        slices=quality.slices(answers.classes, labels, None),
    )


def _beside(
    alone: Evidence, parent: Path, split: Split, answers: dict[str, Answers], figures: Figures,
    runtimes: "dict[str, onnxruntime.InferenceSession]",
) -> Evidence:  # fmt: skip
    labels, own, theirs = split.labels.ravel(), answers["own"].classes, answers["parent"].classes
    lost, won = quality.only_one_right(own, theirs, labels)
    apart = quality.diverge(runtimes["own"], runtimes["parent"], split.inputs)
    single = figures.speeds[0]
    return replace(
        alone,
        parent_size_bytes=parent.stat().st_size,
        parent_accuracy=quality.accuracy(theirs, labels),
        parent_latency_ms_p50=single.ms_p50,
        parent_latency_ms_p95=single.ms_p95,
        parent_sha256=_sha256(parent),
        agreement=quality.agreement(own, theirs),
        parent_only_right=lost,
        own_only_right=won,
        kl_mean=apart.kl_mean,
        cosine_mean=apart.cosine_mean,
        cosine_min=apart.cosine_min,
        parent=figures,
        slices=quality.slices(own, labels, theirs),
    )


def _sha256(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
