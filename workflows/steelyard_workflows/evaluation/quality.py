"""How often a version is right, how sure it is, and how often it says what its parent says."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.domain.evidence import Slice
from steelyard_workflows.evaluation.runtime import Runtime, outputs_of

BATCH = 256
BINS = 15
MOST_SLICES = 100
"""A model with more classes than this (a language model) has no slices."""
Classes = NDArray[np.integer[Any]]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Answers:
    """What a file answers on held-out rows, label by label: first choice and how sure it is."""

    classes: Classes
    confidence: Floats


@dataclass(frozen=True, slots=True)
class Divergence:
    """How far two files' first outputs are apart; None where a value is not finite."""

    kl_mean: float | None
    cosine_mean: float | None
    cosine_min: float | None


def answer(runtime: Runtime, rows: NDArray[Any]) -> Answers:
    """The answers for all rows, a batch at a time: logits may be large."""
    found = [_answers(outputs_of(runtime, batch)) for batch in _batches(rows)]
    return Answers(
        np.concatenate([a.classes.ravel() for a in found]),
        np.concatenate([a.confidence.ravel() for a in found]),
    )


def diverge(own: Runtime, parent: Runtime, rows: NDArray[Any]) -> Divergence:
    """KL divergence of the parent's distribution from its variant's, and cosines of outputs."""
    kl, cosines = [], []
    for batch in _batches(rows):
        ours, theirs = outputs_of(own, batch), outputs_of(parent, batch)
        before, after = log_softmax(theirs), log_softmax(ours)
        kl.append((np.exp(before) * (before - after)).sum(-1).ravel())
        cosines.append(_cosine(ours.reshape(len(batch), -1), theirs.reshape(len(batch), -1)))
    angles = np.concatenate(cosines)
    # A divergence is not negative; float32 rounds a zero to either side.
    mean = max(0.0, float(np.concatenate(kl).mean()))
    return Divergence(_finite(mean), _finite(float(angles.mean())), _finite(float(angles.min())))


def accuracy(answers: Classes, labels: Classes) -> float:
    """Share of labels that were answered, in [0, 1]; a row may have several.

    >>> accuracy(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 0]))
    0.75
    """
    return float((answers == labels).mean())


def agreement(answers: Classes, parent: Classes) -> float:
    """Share of labels where the first choice is the parent's, right or wrong.

    >>> agreement(np.array([1, 2]), np.array([1, 0]))
    0.5
    """
    return float((answers == parent).mean())


def chance(answers: Classes, labels: Classes) -> float:
    """What these answers would get in another order: their accuracy without any knowledge.

    >>> chance(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    0.5
    """
    size = int(max(answers.max(), labels.max())) + 1
    said, true = (np.bincount(a.ravel(), minlength=size) / a.size for a in (answers, labels))
    return float((said * true).sum())


def only_one_right(answers: Classes, parent: Classes, labels: Classes) -> tuple[int, int]:
    """How many labels only the parent got right, and how many only its variant.

    >>> only_one_right(np.array([1, 0, 3]), np.array([1, 2, 0]), np.array([1, 2, 3]))
    (1, 1)
    """
    own, theirs = answers == labels, parent == labels
    return int((theirs & ~own).sum()), int((own & ~theirs).sum())


def calibration_error(answers: Answers, labels: Classes) -> float:
    """Expected calibration error: how far confidence is from being right, over 15 equal bins.

    >>> sure = Answers(np.array([1, 1]), np.array([1.0, 1.0]))
    >>> calibration_error(sure, np.array([1, 0]))
    0.5
    """
    right = answers.classes == labels
    bins = np.minimum((answers.confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, right.astype(float) - answers.confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))


def slices(answers: Classes, labels: Classes, parent: Classes | None) -> tuple[Slice, ...]:
    """Quality on each class; none where there are more than a hundred."""
    found = np.unique(labels)
    if len(found) > MOST_SLICES:
        return ()
    return tuple(_slice(int(one), labels == one, answers, parent) for one in found)


def log_softmax(logits: Floats) -> Floats:
    """Logarithms of the probabilities that logits stand for."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def _slice(name: int, chosen: NDArray[np.bool_], own: Classes, parent: Classes | None) -> Slice:
    before = float((parent[chosen] == name).mean()) if parent is not None else None
    return Slice(str(name), int(chosen.sum()), float((own[chosen] == name).mean()), before)


def _batches(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    return (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))


def _answers(logits: Floats) -> Answers:
    return Answers(logits.argmax(-1), np.exp(log_softmax(logits).max(-1)))


def _cosine(ours: Floats, theirs: Floats) -> Floats:
    one, other = ours.astype(np.float64), theirs.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    result: Floats = (one * other).sum(1) / np.where(lengths == 0, 1.0, lengths)
    return result


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
