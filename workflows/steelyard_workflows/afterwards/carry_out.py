"""What a workflow asks for once its version is registered, carried out part by part.

A part that cannot be made is said and does not undo the others. Everything may be repeated: what
is there already is not made again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from steelyard.cli.output import note
from steelyard.domain.errors import InvalidInput, SteelyardError
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_workflows.afterwards import evaluation_sets, rollout, variants
from steelyard_workflows.afterwards.evaluation_sets import Judged
from steelyard_workflows.afterwards.rollout import Started
from steelyard_workflows.afterwards.variants import MadeVariant
from steelyard_workflows.data import Split
from steelyard_workflows.loading import loaded
from steelyard_workflows.trial import classes_of
from steelyard_workflows.workflow import TRAINED, Workflow


@dataclass(frozen=True, slots=True)
class Missing:
    """A part that was asked for and is not there: why, and what to do."""

    what: str
    why: str
    hint: str = ""


@dataclass
class Afterwards:
    """What became of a version's afterwards, so far."""

    version: ModelVersion
    evaluations: list[Judged] = field(default_factory=list)
    variants: list[MadeVariant] = field(default_factory=list)
    rollout: Started | None = None
    missing: list[Missing] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """All of it as JSON has it; empty for a workflow that asks for nothing."""
        shown = {
            "evaluations": [_figures(one) for one in self.evaluations],
            "variants": [variants.document(one) for one in self.variants],
            "rollout": asdict(self.rollout) if self.rollout else None,
            "missing": [asdict(one) for one in self.missing],
        }
        return {key: value for key, value in shown.items() if value}

    def require_complete(self) -> None:
        """Say that something is missing, after everything else was made.

        Raises:
            SteelyardError: naming each part that is not there.
        """
        if self.missing:
            parts = "; ".join(one.what for one in self.missing)
            raise SteelyardError(
                f"{self.version.name} is registered. Not done: {parts}.",
                f"What is missing is done by: steelyard train --afterwards {self.version.name}",
            )


def carry_out(version: ModelVersion, workflow: Workflow, settings: Settings) -> Afterwards:
    """Judge, make variants, roll out; errors of ours are kept as what is missing.

    Raises:
        KeyboardInterrupt: Ctrl-C; what was made until then stays.
    """
    after = Afterwards(version)
    if not (workflow.evaluations or workflow.variants or workflow.rollout):
        return after
    note(f"Afterwards: {version.name}")
    splits: dict[str, Split] = {}
    with _part(after, "evaluation sets"):
        splits = _splits(workflow)
    _judge(after, workflow, splits, version, settings)
    for wanted in workflow.variants:
        with _part(after, f"variant {wanted.kind}"):
            made = variants.made(wanted, version, settings)
            after.variants.append(made)
            _judge(after, workflow, splits, made.version, settings)
    if workflow.rollout is not None:
        with _part(after, f"rollout of {workflow.rollout.version}"):
            after.rollout = _roll_out(after, workflow, settings)
    return after


@contextmanager
def _part(after: Afterwards, what: str) -> Iterator[None]:
    """One part: an error of ours is said, kept, and does not end the others."""
    try:
        yield
    except SteelyardError as error:
        faults = error.faults if isinstance(error, InvalidInput) else ()
        why = " ".join([error.message, *(f"{fault};" for fault in faults)]).removesuffix(";")
        note(f"  {what}: not done. {why}")
        if error.hint:
            note(f"  {error.hint}")
        after.missing.append(Missing(what, why, error.hint))


def _splits(workflow: Workflow) -> dict[str, Split]:
    if not workflow.evaluations:
        return {}
    made = loaded(workflow)
    classes = classes_of(made.network, made.dataset)
    return evaluation_sets.load(workflow, made.dataset, classes)


def _judge(
    after: Afterwards, workflow: Workflow, splits: dict[str, Split], version: ModelVersion,
    settings: Settings,
) -> None:  # fmt: skip
    for wanted in workflow.evaluations:
        if wanted.name not in splits:
            continue
        with _part(after, f"evaluation {wanted.name} of {version.name}"):
            split = splits[wanted.name]
            judged = evaluation_sets.judge(wanted, split, version, settings, workflow.team)
            note(f"  {version.name} {judged}")
            after.evaluations.append(judged)


def _roll_out(after: Afterwards, workflow: Workflow, settings: Settings) -> Started:
    asked = workflow.rollout
    assert asked is not None
    chosen = next((v for v in after.variants if v.kind == asked.version), None)
    if chosen is None and asked.version != TRAINED:
        raise SteelyardError(f"There is no {asked.version} of {after.version.name} to roll out.")
    version = chosen.version if chosen else after.version
    unjudged = [one.what for one in after.missing if one.what.startswith("evaluation")]
    if unjudged:
        raise SteelyardError(
            f"{version.name} is not rolled out, because this is missing: {'; '.join(unjudged)}."
        )
    judged = [j for j in after.evaluations if j.version in (version.name, after.version.name)]
    rollout.require_passed(version.name, judged, chosen.findings if chosen else ())
    try:
        return rollout.start(asked, version, settings)
    except SteelyardError as error:
        first = f"{error.hint.rstrip('.')}. " if error.hint else ""
        later = f"Later: {rollout.command(asked, version.name)}"
        raise type(error)(error.message, hint=first + later) from error


def _figures(one: Judged) -> dict[str, Any]:
    return {**asdict(one), "accuracy": one.accuracy, "low": one.low, "high": one.high,
            "passed": one.passed}  # fmt: skip
