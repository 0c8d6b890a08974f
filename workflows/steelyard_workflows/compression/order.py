"""What a compression starts from, opened and checked: the parent, the steps, the recipe."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.bootstrap.registry import registry
from steelyard.domain.errors import Fault, InvalidInput, Refused
from steelyard.domain.model_version import ModelVersion, parse_ref
from steelyard.settings import Settings
from steelyard_workflows import data, recipe
from steelyard_workflows.compression import weights
from steelyard_workflows.data import Dataset
from steelyard_workflows.tracking.run import workflow_of
from steelyard_workflows.variants import graph
from steelyard_workflows.variants.kind import Source, Value
from steelyard_workflows.variants.steps import Step, steps_of

FORMAT = 1
LEAST_ROWS = 64
"""Fewer calibration rows give ranges by chance."""


@dataclass(frozen=True)
class Order:
    """A variant that can be made: ``recipe`` is all that decides its bytes."""

    kind: str
    source: Source
    steps: tuple[Step, ...]
    recipe: Mapping[str, Any]

    @cached_property
    def text(self) -> str:
        """The recipe as canonical JSON: sorted keys, no spaces."""
        return json.dumps(self.recipe, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @cached_property
    def sha256(self) -> str:
        """Digest of the canonical JSON."""
        return sha256(self.text.encode()).hexdigest()


def ordered(
    reference: str, kind: str, options: Mapping[str, Value], settings: Settings
) -> Order:  # fmt: skip
    """Open what ``MODEL/VERSION`` and a kind name. Nothing is written.

    Raises:
        InvalidInput: no such kind or option, or the reference names no single version.
        NotFound: the parent does not exist.
        Refused: the parent was changed, is a variant itself, or does not suit the kind.
    """
    steps = steps_of(kind, options)
    version = _parent(reference, settings)
    workflow = workflow_of(settings, version)
    path = registry(settings).fetch(version, settings.cache_dir)
    found = graph.read(path)
    for step in steps:
        reason = step.kind.refusal(found)
        if reason is not None:
            raise Refused(f"{version.name}: {reason}")
    made = recipe.of(workflow)
    dataset = data.load(made.data, workflow)
    rows = calibration(dataset, steps)
    state = None
    if any(step.kind.weights for step in steps):
        with tempfile.TemporaryDirectory() as scratch:
            state = weights.kept(version, path, made, workflow, dataset, settings, Path(scratch))
    source = Source(version, path, workflow, made, dataset, rows, found, version.flops, state)
    return Order(kind, source, steps, _recipe(kind, source, steps))


def _parent(reference: str, settings: Settings) -> ModelVersion:
    ref, models = parse_ref(reference), registry(settings)
    number = ref.number(models.aliases(ref.model)) if ref.alias else ref.version
    if number is None:
        fault = Fault("model", f"{reference!r} names no single version")
        raise InvalidInput(str(fault), (fault,), f"Write {ref.model}/1, for example.")
    version = models.version(ref.model, number)
    if version.variant != "fp32":
        raise Refused(
            f"{version.name} is a variant itself ({version.variant}).",
            f"Compress its parent, {version.model}/{version.parent}; kinds are joined by +.",
        )
    return version


def calibration(dataset: Dataset, steps: Sequence[Step]) -> NDArray[Any]:
    """Training rows from everywhere in the split, none of which is judged by; none if not asked.

    Raises:
        Refused: the rows asked for are those that the variant is judged by, or are too few.
    """
    asked = [step.options for step in steps if step.kind.calibrated]
    inputs = dataset.train.inputs
    if not asked:
        return inputs[:0]
    split, count = asked[0]["calibration_split"], int(asked[0]["calibration_rows"])
    if split != "train":
        raise Refused(
            f"Calibration rows from the {split} split are a leak: the variant would be judged by "
            "rows that it was fitted to.",
            "Leave calibration_split at train.",
        )
    judged = {row.tobytes() for part in (dataset.validation, dataset.test) for row in part.inputs}
    own = np.array([n for n, row in enumerate(inputs) if row.tobytes() not in judged], np.int64)
    if len(own) < LEAST_ROWS:
        raise Refused(
            f"{len(own)} training rows are left for calibration (of {len(inputs)}, without those "
            f"that are also judged); {LEAST_ROWS} are the least.",
            "Use int8_dynamic, which needs none, or more training rows.",
        )
    # From everywhere: a source may be sorted by what its rows are.
    taken = own[:: max(1, len(own) // count)][:count]
    rows: NDArray[Any] = np.ascontiguousarray(inputs[taken])
    return rows


def _recipe(kind: str, source: Source, steps: Sequence[Step]) -> dict[str, Any]:
    learns = any(step.kind.step == "network" for step in steps)
    rows, workflow = source.calibration, source.workflow
    libraries = sorted({name for step in steps for name in step.kind.libraries})
    return {
        "format": FORMAT,
        "kind": kind,
        "parent": {"name": source.version.name, "sha256": source.version.sha256},
        "steps": [{"kind": s.kind.name, "options": dict(s.options)} for s in steps],
        "calibration": {"split": "train", "rows": len(rows),
                        "sha256": sha256(rows.tobytes()).hexdigest()} if len(rows) else None,
        "learning": {"recipe": workflow.recipe, "data_sha256": source.dataset.sha256,
                     "train": workflow.train.model_dump(mode="json")} if learns else None,
        "libraries": {name: installed(name) for name in libraries},
    }  # fmt: skip
