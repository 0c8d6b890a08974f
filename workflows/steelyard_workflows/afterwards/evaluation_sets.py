"""Evaluation sets: held-out rows of the user's own that every version is judged on.

A set that holds rows which were trained or chosen by proves nothing and is refused as a leak.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from numpy.typing import NDArray

from steelyard.bootstrap.registry import check_registry, registry
from steelyard.domain.errors import Fault, InvalidInput, Refused
from steelyard.domain.evidence_intervals import share_interval
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_workflows import data
from steelyard_workflows.booking.metering import charge_for, now_us, stopwatch
from steelyard_workflows.data import Dataset, Split
from steelyard_workflows.evaluation.quality import answer
from steelyard_workflows.evaluation.runtime import check_runs, opened
from steelyard_workflows.own_code import imported
from steelyard_workflows.tracking.late import told_late
from steelyard_workflows.tracking.run_page import log_metrics, set_tags
from steelyard_workflows.workflow import EvaluationSet, Workflow

SEEN = ("train", "validation")
"""The splits that a run learns from and chooses its best checkpoint by."""


@dataclass(frozen=True, slots=True)
class Judged:
    """How a version did on a set: ``right`` of ``labels``, in ``examples`` rows.

    ``accuracy`` is their share, ``low`` and ``high`` the ends of its 95 % interval.
    """

    name: str
    version: str
    sha256: str
    examples: int
    labels: int
    right: int
    min_accuracy: float | None = None

    @property
    def accuracy(self) -> float:
        """In [0, 1]."""
        return self.right / self.labels

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return share_interval(self.right, self.labels).low

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return share_interval(self.right, self.labels).high

    @property
    def passed(self) -> bool:
        """Whether the accuracy is as high as the file asks; it need not ask."""
        return self.min_accuracy is None or self.accuracy >= self.min_accuracy

    def __str__(self) -> str:
        asked = "" if self.min_accuracy is None else f", asked for {self.min_accuracy:g}"
        return (
            f"evaluation {self.name}: accuracy {self.accuracy:.4f} ({self.low:.4f} to "
            f"{self.high:.4f}) on {self.examples} rows{asked}"
        )


def load(workflow: Workflow, dataset: Dataset, classes: int) -> dict[str, Split]:
    """The rows of every evaluation set of a workflow, checked, by the set's name.

    Raises:
        InvalidInput: a function does not import or gives no ``Split``; rows are empty, NaN, of
            another shape than those of training, of unknown classes, or were learned from.
    """
    found: dict[str, Split] = {}
    faults: list[Fault] = []
    for one in workflow.evaluations:
        where = f"evaluations.{one.name}"
        try:
            split = imported(one.rows)(workflow)
        except Exception as error:  # whatever the user's code raises is the user's to see
            what = f"{one.rows!r} gives no rows: {type(error).__name__}: {error}"
            faults.append(Fault(where, what))
            continue
        wrong = list(_faults(where, split, dataset, classes))
        faults += wrong
        if not wrong:
            found[one.name] = split
    if faults:
        raise InvalidInput(
            "The evaluation sets cannot be used.", tuple(faults), "See docs/reference/workflow.md."
        )
    return found


def _faults(where: str, split: object, dataset: Dataset, classes: int) -> Iterator[Fault]:
    if not isinstance(split, Split):
        yield Fault(where, f"must be a Split, found {type(split).__name__}")
        return
    wrong = data.faults_of(where, split, dataset.train)
    if wrong:
        yield from wrong
        return
    top = int(split.labels.max())
    if top >= classes:
        yield Fault(f"{where}.labels", f"go up to {top}, the network knows 0..{classes - 1}")
    own = _digests(split.inputs)
    for part in SEEN:
        seen = set(_digests(dataset.splits[part].inputs))
        leaked = [row for row, one in enumerate(own) if one in seen]
        if leaked:
            yield Fault(
                where,
                f"{len(leaked)} of {len(own)} rows are {part} rows, the first is {leaked[0]}: a "
                "leak; what was learned from proves nothing",
            )


def _digests(inputs: NDArray[Any]) -> list[bytes]:
    """What a row is known by: the digest of its input, whatever its label."""
    return [sha256(np.ascontiguousarray(row).tobytes()).digest() for row in inputs]


def judge(
    wanted: EvaluationSet, split: Split, version: ModelVersion, settings: Settings,
    team: str | None,
) -> Judged:  # fmt: skip
    """A version's file on a set; what was found before about the same rows is not measured again.

    The time is booked to the version's run, and the figures are written on its page.

    Raises:
        Unavailable: MLflow does not answer.
        Refused: the version's bytes were changed, its run is gone, or it is not of a form that
            the runtime takes.
    """
    check_runs(version)
    digest = split.sha256
    known = _known(wanted, digest, version, settings)
    if known is not None:
        return known
    path = registry(settings).fetch(version, settings.cache_dir)
    charge = charge_for(settings, version.run_id, version.model, 1, team)
    # With the moment, because a set whose rows changed is judged once more.
    resource = f"evaluate/{version.run_id}/{wanted.name}/{now_us()}"
    with (
        stopwatch(settings, charge, resource, is_attempt=False) as watch,
        watch.measure("evaluate") as work,
    ):
        answers = answer(opened(path, version.runtime), split.inputs)
        right = int((answers.classes == split.labels.ravel()).sum())
        work.count(len(split), version.flops)
    judged = Judged(wanted.name, version.name, digest, len(split), split.labels.size, right,
                    wanted.min_accuracy)  # fmt: skip
    with told_late(settings, version.run_id, f"The evaluation {wanted.name}"):
        log_metrics(settings, version.run_id, metrics(judged), 0, now_us())
        set_tags(settings, version.run_id, {_tag(wanted.name): digest})
    return judged


def metrics(judged: Judged) -> Mapping[str, float]:
    """The figures as the run's page has them: ``evaluation/NAME/accuracy`` and so on."""
    figures = ("accuracy", "low", "high", "examples", "labels", "right")
    return {f"evaluation/{judged.name}/{f}": float(getattr(judged, f)) for f in figures}


def _tag(name: str) -> str:
    return f"steelyard.evaluation.{name}"


def _known(
    wanted: EvaluationSet, digest: str, version: ModelVersion, settings: Settings
) -> Judged | None:
    """What the run's page says of the same rows already."""
    check_registry(settings)
    try:
        page = MlflowClient(settings.registry_uri).get_run(version.run_id).data
    except MlflowException as error:
        raise Refused(f"The run of {version.name} is gone: {error}") from error
    if page.tags.get(_tag(wanted.name)) != digest:
        return None
    counts = (page.metrics.get(f"evaluation/{wanted.name}/{f}")
              for f in ("examples", "labels", "right"))  # fmt: skip
    examples, labels, right = (None if c is None else int(c) for c in counts)
    if examples is None or labels is None or right is None:
        return None
    return Judged(wanted.name, version.name, digest, examples, labels, right, wanted.min_accuracy)
