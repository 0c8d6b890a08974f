"""Everything that can be wrong with a trial, looked at before the first one starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steelyard.domain.errors import Fault, InvalidInput, Refused
from steelyard.settings import Settings
from steelyard_workflows import checks
from steelyard_workflows.cluster import check_room
from steelyard_workflows.loading import Loaded, loaded
from steelyard_workflows.sweeps.plan import Trial, planned
from steelyard_workflows.training.fit import charge_of
from steelyard_workflows.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Prepared:
    """The trials, and what each starts from; trials with the same ``data`` share it."""

    trials: tuple[Trial, ...]
    made: Mapping[int, Loaded]


def prepared(workflow: Workflow, settings: Settings) -> Prepared:
    """The trials of a sweep that can be run.

    Raises:
        InvalidInput: draws that make no usable workflow or no usable network, all of them.
        Refused: a trial needs what this machine or cluster has not.
    """
    trials = planned(workflow)
    made = _made(trials)
    for trial in trials:
        try:
            _check(trial, made[trial.number], settings, len(trials))
        except Refused as error:
            raise Refused(f"{_name(trial)}: {error.message}", error.hint) from error
    checks.check_afterwards(trials[0].workflow, made[1])
    return Prepared(trials, made)


def largest(trials: Sequence[Trial]) -> Workflow:
    """The workflow of the trial that reserves most."""
    return max((t.workflow for t in trials), key=lambda w: (_gpus(w), w.scaling.cpus))


def at_once(workflow: Workflow, trials: Sequence[Trial], cpus: int, gpus: int) -> tuple[int, str]:
    """How many trials run at a time on so many devices, and why, in words.

    Raises:
        Refused: a trial alone reserves more.
    """
    wanted = min(workflow.sweep.concurrent if workflow.sweep else 1, len(trials))
    most_cpus = max(trial.workflow.scaling.cpus for trial in trials)
    most_gpus = max(_gpus(trial.workflow) for trial in trials)
    room = cpus // most_cpus
    if most_gpus:
        room = min(room, gpus // most_gpus)
    if not room:
        raise Refused(
            f"A trial reserves up to {most_cpus} CPUs and {most_gpus} GPUs, the Ray cluster has "
            f"{cpus} and {gpus}.",
            "Lower scaling.workers or what the sweep draws of scaling.",
        )
    if room >= wanted:
        return wanted, f"{wanted} at a time"
    return room, (
        f"{room} at a time, not {wanted}: a trial reserves up to {most_cpus} CPUs and {most_gpus} "
        f"GPUs of {cpus} and {gpus}"
    )


def _made(trials: Sequence[Trial]) -> dict[int, Loaded]:
    """Load each different ``data`` once, with the network that the first trial of it builds."""
    by_data: dict[str, Loaded] = {}
    faults: dict[str, tuple[Fault, ...]] = {}
    for trial in trials:
        key = trial.workflow.data.model_dump_json()
        if key in by_data or key in faults:
            continue
        try:
            by_data[key] = loaded(trial.workflow)
        except InvalidInput as error:
            found = error.faults or (Fault("recipe", error.message),)
            faults[key] = tuple(Fault(f.where, f"{_name(trial)}: {f.what}") for f in found)
    if faults:
        raise InvalidInput(
            "The sweep cannot be run; nothing was started.",
            tuple(fault for found in faults.values() for fault in found),
            "See docs/how-to/sweep.md.",
        )
    return {t.number: by_data[t.workflow.data.model_dump_json()] for t in trials}


def _check(trial: Trial, made: Loaded, settings: Settings, trials: int) -> None:
    check_room(settings, trial.workflow)
    checks.check(trial.workflow, made.network, settings, trials)
    charge_of(trial.workflow, settings, "", made.dataset)


def _gpus(workflow: Workflow) -> int:
    return workflow.scaling.workers * workflow.scaling.gpus_per_worker


def _name(trial: Trial) -> str:
    return f"trial {trial.number} ({trial.words()})"
