"""The trials of a sweep: each a complete workflow, all checked before any of them starts."""

import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from steelyard.domain.errors import Fault, InvalidInput
from steelyard_workflows.sweeps.draws import Value, Values, different
from steelyard_workflows.workflow import Draw, Sweep, Workflow

ROOTS = ("checkpoints", "data", "early_stopping", "scaling", "train")
"""What a sweep may vary: how a model is trained. The rest says whose it is and what counts."""
JUDGES = ("early_stopping.metric", "early_stopping.mode")
"""What trials are compared by."""
OPTIONS = "data.options."
"""The recipe's own: which there are, only the recipe knows."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a sweep: its number from 1, what was drawn, and the workflow that it makes."""

    number: int
    values: Values
    workflow: Workflow

    def words(self) -> str:
        """The drawn values for people: the last part of each key."""
        return words(self.values)


def words(values: Values) -> str:
    """Drawn values in a line.

    >>> words({"train.learning_rate": 0.002, "train.optimizer": "sgd"})
    'learning_rate 0.002, optimizer sgd'
    """
    return ", ".join(f"{key.rpartition('.')[2]} {one}" for key, one in sorted(values.items()))


def planned(workflow: Workflow) -> tuple[Trial, ...]:
    """The trials of a workflow that has a sweep.

    Raises:
        InvalidInput: with all faults: keys that a sweep cannot vary, bounds that do not suit
            them, draws that make no usable workflow, fewer different draws than trials.
    """
    sweep = _of(workflow)
    whole = {key for key in sweep.search if _is_whole(key, workflow)}
    faults = [f for key, draw in sweep.search.items() for f in _key_faults(key, draw, workflow)]
    _raise(faults)
    trials, wrong = [], _Wrong()
    for number, values in enumerate(different(sweep, whole), start=1):
        try:
            trials.append(Trial(number, values, _with(workflow, values)))
        except ValidationError as error:
            wrong.add(number, values, error)
    faults = [*wrong.faults(), *_sweep_faults(sweep, trials, len(trials) + wrong.trials)]
    _raise(faults)
    return tuple(trials)


def _of(workflow: Workflow) -> Sweep:
    if workflow.sweep is None:
        raise ValueError("a workflow without a sweep has no trials")
    return workflow.sweep


def _raise(faults: list[Fault]) -> None:
    if faults:
        raise InvalidInput(
            "The sweep cannot be run; nothing was started.", tuple(faults),
            "See docs/how-to/sweep.md.",
        )  # fmt: skip


def _with(workflow: Workflow, values: Values) -> Workflow:
    """The workflow with drawn values, validated as a whole; it sweeps no more."""
    document: dict[str, Any] = workflow.model_dump() | {"sweep": None}
    for key, one in values.items():
        at, path = document, _path(key)
        for part in path[:-1]:
            at = at[part]
        at[path[-1]] = one
    return Workflow.model_validate(document)


def _path(key: str) -> list[str]:
    """The keys that lead to a value; an option's name may have dots."""
    if key.startswith(OPTIONS):
        return [*OPTIONS.split(".")[:-1], key.removeprefix(OPTIONS)]
    return key.split(".")


def _key_faults(key: str, draw: Draw, workflow: Workflow) -> Iterator[Fault]:
    where = f"sweep.search.{key}"
    if key in JUDGES:
        yield Fault(where, "says what trials are compared by: it is the same for all")
        return
    if key.partition(".")[0] not in ROOTS:
        yield Fault(where, f"cannot be drawn; what can: keys of {', '.join(ROOTS)}")
        return
    if not key.startswith(OPTIONS) and _annotation(key) is None:
        yield Fault(where, "is not a key of a workflow, or is a group of keys")
        return
    bounds = draw.uniform or draw.log_uniform
    if bounds is not None and _is_whole(key, workflow) and not all(n.is_integer() for n in bounds):
        yield Fault(where, f"is a whole number; its bounds are not: {bounds[0]:g}, {bounds[1]:g}")


def _annotation(key: str) -> Any:
    """The type of the value that a dotted key has; None for no key and for a group of keys."""
    found: Any = Workflow
    for part in key.split("."):
        if not (isinstance(found, type) and issubclass(found, BaseModel)):
            return None
        field = found.model_fields.get(part)
        found = field.annotation if field is not None else None
    group = isinstance(found, type) and issubclass(found, BaseModel)
    return None if group or typing.get_origin(found) is dict else found


def _is_whole(key: str, workflow: Workflow) -> bool:
    """Whether a key takes whole numbers only; an option, whether it is one in the workflow."""
    if key.startswith(OPTIONS):
        now = workflow.data.options.get(key.removeprefix(OPTIONS))
        return isinstance(now, int) and not isinstance(now, bool)
    found = _annotation(key)
    return int in (found, *typing.get_args(found)) and float not in typing.get_args(found)


def _sweep_faults(sweep: Sweep, trials: list[Trial], drawn: int) -> Iterator[Fault]:
    if drawn < sweep.trials:
        yield Fault(
            "sweep.trials", f"{sweep.trials} trials, and the search space gave {drawn} different "
            f"ones; lower it to {drawn}, or widen the search",
        )  # fmt: skip
    longest = max((trial.workflow.train.epochs for trial in trials), default=math.inf)
    if sweep.scheduler == "asha" and sweep.grace_epochs > longest:
        yield Fault("sweep.grace_epochs", f"{sweep.grace_epochs} epochs, a trial has {longest}")


class _Wrong:
    """What is wrong with drawn trials, each thing once with the trials that have it."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[tuple[int, str]]] = {}
        self.trials = 0

    def add(self, number: int, values: Mapping[str, Value], error: ValidationError) -> None:
        self.trials += 1
        for detail in error.errors(include_url=False):
            place = ".".join(map(str, detail["loc"]))
            key = next((one for one in values if f"{place}.".startswith(f"{one}.")), place)
            message = detail["msg"].removeprefix("Value error, ")
            where = f"sweep.search.{key}" if key in values else key or "sweep.search"
            shown = f"{values[key]!r}" if key in values else words(values)
            self._found.setdefault((where, message), []).append((number, shown))

    def faults(self) -> Iterator[Fault]:
        for (where, message), trials in self._found.items():
            (number, shown), more = trials[0], len(trials) - 1
            also = f" (and {more} more)" if more else ""
            yield Fault(where, f"trial {number}{also} draws {shown}: {message[:1].lower()}"
                               f"{message[1:]}")  # fmt: skip
