"""What data a run learned from, so that two runs can be told apart: digests, shapes, labels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from steelyard_workflows.data import Dataset, Split

if TYPE_CHECKING:
    from mlflow.data.numpy_dataset import NumpyDataset

LISTED = 20
"""Labels are counted one by one up to so many classes."""
DIGEST = 36
"""Characters that MLflow keeps of a data set's digest."""
CONTEXTS = {"train": "training", "validation": "validation", "test": "test"}


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """One split: ``shape`` and ``dtype`` are of one input, ``labels`` is said in words."""

    sha256: str
    rows: int
    shape: tuple[int, ...]
    dtype: str
    labels: str


def fingerprint(split: Split) -> Fingerprint:
    """The fingerprint of a split; its digest covers every input and label."""
    inputs = split.inputs
    return Fingerprint(
        split.sha256, len(split), tuple(inputs.shape[1:]), str(inputs.dtype), _labels(split)
    )


def _labels(split: Split) -> str:
    """How often each label occurs; of many, how many there are and the range of their counts.

    >>> _labels(Split(np.zeros((3, 1)), np.array([1, 0, 1]), np.arange(3)))
    '0: 1, 1: 2'
    """
    values, counts = np.unique(split.labels, return_counts=True)
    if len(values) <= LISTED:
        return ", ".join(f"{v}: {n}" for v, n in zip(values, counts, strict=True))
    return f"{len(values)} classes, {counts.min()} to {counts.max()} times each"


def parameters(dataset: Dataset) -> dict[str, str]:
    """All fingerprints under dotted names, as text, for the experiment tracker."""
    found = {"data.sha256": dataset.sha256}
    for name in CONTEXTS:
        one = fingerprint(getattr(dataset, name))
        found |= {
            f"data.{name}.sha256": one.sha256,
            f"data.{name}.rows": str(one.rows),
            f"data.{name}.shape": str(list(one.shape)),
            f"data.{name}.dtype": one.dtype,
            f"data.{name}.labels": one.labels,
        }
    return found


def mlflow_datasets(dataset: Dataset, name: str) -> dict[str, "NumpyDataset"]:
    """The splits as MLflow's inputs of a run, by what they were used for.

    Their digests are the beginnings of ours. The rows themselves are not stored.
    """
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.numpy_dataset import from_numpy

    source = CodeDatasetSource({"steelyard.recipe": name})
    return {
        context: from_numpy(
            split.inputs, targets=split.labels, name=f"{name}-{part}",
            digest=split.sha256[:DIGEST], source=source,
        )
        for part, context in CONTEXTS.items()
        for split in (getattr(dataset, part),)
    }  # fmt: skip
