"""One version's evidence, measured now and here, beside its parent when it has one."""

import os
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from steelyard.bootstrap.runtimes import hardware_profile
from steelyard.domain.energy import LoadModel
from steelyard.domain.evidence import Evidence, Figures, Speed
from steelyard.domain.evidence_intervals import share_interval
from steelyard.domain.model_version import ONNXRUNTIME, SERVED_BY, FlopsProfile
from steelyard_workflows.data import Split
from steelyard_workflows.evaluation import quality
from steelyard_workflows.evaluation.footprint import Footprint, measure_footprint
from steelyard_workflows.evaluation.quality import Answers
from steelyard_workflows.evaluation.runtime import Runtime, library_of, opened
from steelyard_workflows.evaluation.speed import measure_speed
from steelyard_workflows.evaluation.weights import Weights, count_weights

LOADING = 1
"""Rows that measuring a footprint answers."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: a file, and what runs it."""

    path: Path
    runtime: Runtime

    @property
    def is_onnx(self) -> bool:
        """Whether its weights can be looked into."""
        return self.path.suffix == ".onnx"

    @property
    def is_served(self) -> bool:
        """Whether replicas open it, and so what it takes to load can be measured."""
        return self.path.suffix == SERVED_BY.get(library_of(self.runtime))


@dataclass(frozen=True, slots=True)
class Measured:
    """The evidence, and how many rows the version and its parent answered for it."""

    evidence: Evidence
    own: int
    parent: int = 0

    @property
    def inferences(self) -> int:
        """All of them."""
        return self.own + self.parent

    def flop(self, own: FlopsProfile | None, parent: FlopsProfile | None = None) -> int | None:
        """What the answers took, by the FLOPs of one; None: those of one are not known."""
        total = 0
        for rows, profile in ((self.own, own), (self.parent, parent)):
            if rows and (profile is None or profile.forward is None):
                return None
            total += rows * profile.forward if rows and profile and profile.forward else 0
        return total


def subject(path: Path, library: str = ONNXRUNTIME) -> Subject:
    """An ONNX file and the runtime of the replicas that serve it.

    Raises:
        Refused: no replica runs the library, or it is not installed here.
    """
    return Subject(path, opened(path, library))


def measure(
    own: Subject, split: Split, parent: Subject | None = None, power: LoadModel | None = None
) -> Measured:
    """Quality on all labels of the split, speed on rows of it, what the files take.

    ``power`` is the declared power of the device that computes; without it energy is unknown.
    """
    subjects = {"own": own} | ({"parent": parent} if parent is not None else {})
    runtimes = {side: one.runtime for side, one in subjects.items()}
    load_average = os.getloadavg()[0]
    answers = {side: quality.answer(r, split.inputs) for side, r in runtimes.items()}
    timed = measure_speed(runtimes, split.inputs)
    figures = {
        side: _figures(one, timed.speeds[side], answers[side], split, power)
        for side, one in subjects.items()
    }
    evidence = _alone(own, split, answers["own"], figures["own"], load_average)
    if parent is not None:
        evidence = _beside(evidence, own.runtime, parent, split, answers, figures["parent"])
    # A comparison answers every row once more.
    judged = len(subjects) * len(split)
    rows = {
        side: judged + timed.inferences[side] + LOADING * one.is_served
        for side, one in subjects.items()
    }
    return Measured(evidence, rows["own"], rows.get("parent", 0))


def _figures(
    one: Subject, speeds: tuple[Speed, ...], answers: Answers, split: Split,
    power: LoadModel | None,
) -> Figures:  # fmt: skip
    footprint, weights = Footprint(None, None), Weights(None, None)
    if one.is_served:
        footprint = measure_footprint(one.path, library_of(one.runtime))
    if one.is_onnx:
        weights = count_weights(one.path)
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


def _hardware(runtime: Runtime) -> dict[str, str]:
    """Where and by what it was measured; of the two, the variant's runtime."""
    found = {**hardware_profile(library_of(runtime)), "runtime": runtime.name}
    return found if runtime.datatype is None else {**found, "datatype": runtime.datatype}


def _alone(
    own: Subject, split: Split, answers: Answers, figures: Figures, load_average: float
) -> Evidence:
    labels = split.labels.ravel()
    right = int((answers.classes == labels).sum())
    interval = share_interval(right, len(labels))
    single = figures.speeds[0]
    return Evidence(
        size_bytes=own.path.stat().st_size,
        accuracy=right / len(labels),
        examples=len(split),
        latency_ms_p50=single.ms_p50,
        latency_ms_p95=single.ms_p95,
        hardware=_hardware(own.runtime),
        data_sha256=split.sha256,
        artifact_sha256=_sha256(own.path),
        labels=len(labels),
        chance=quality.chance(answers.classes, labels),
        accuracy_low=interval.low,
        accuracy_high=interval.high,
        load_average=load_average,
        own=figures,
        slices=quality.slices(answers.classes, labels, None),
    )


def _beside(
    alone: Evidence, runtime: Runtime, parent: Subject, split: Split,
    answers: dict[str, Answers], figures: Figures,
) -> Evidence:  # fmt: skip
    labels, own, theirs = split.labels.ravel(), answers["own"].classes, answers["parent"].classes
    lost, won = quality.only_one_right(own, theirs, labels)
    apart = quality.diverge(runtime, parent.runtime, split.inputs)
    single = figures.speeds[0]
    return replace(
        alone,
        parent_size_bytes=parent.path.stat().st_size,
        parent_accuracy=quality.accuracy(theirs, labels),
        parent_latency_ms_p50=single.ms_p50,
        parent_latency_ms_p95=single.ms_p95,
        parent_sha256=_sha256(parent.path),
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
