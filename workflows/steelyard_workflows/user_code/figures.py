"""Which of the values that a script reports are numbers to track, and under which name and step."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from steelyard.domain.errors import Fault

KEY = re.compile(r"\w[\w .:-]*(/\w[\w .:-]*)*", re.ASCII)
"""A subset of what MLflow takes; a slash groups."""
LONGEST_KEY, MOST_KEYS, MOST_REPORTS = 100, 100, 100_000
"""Characters of a name, names in a report, and reports of a run that are tracked."""
Numbers = dict[str, float]
"""Integers stay integers, because FLOPs are exact."""


def number(value: Any) -> float | None:
    """The number that a value is: of Python, NumPy, or a tensor of one element; else None.

    >>> number(True), number("0.5"), number([1.0])
    (1, None, None)
    """
    if not isinstance(value, int | float):
        try:
            value = value.item()
        except (AttributeError, RuntimeError, TypeError, ValueError):
            return None
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, int | float) else None


def numbers(metrics: Mapping[str, Any]) -> tuple[Numbers, list[Fault]]:
    """What can be tracked of a report, and what is wrong with the rest."""
    found: Numbers = {}
    faults: list[Fault] = []
    for key, value in metrics.items():
        what = _fault(key, value)
        if what is None and len(found) == MOST_KEYS:
            what = f"is one more than the {MOST_KEYS} that a report may have"
        if what is None:
            found[key] = number(value) or 0
        else:
            faults.append(Fault(str(key)[:LONGEST_KEY], what))
    return found, faults


def _fault(key: object, value: Any) -> str | None:
    if not isinstance(key, str) or len(key) > LONGEST_KEY:
        return f"is no name, or one of more than {LONGEST_KEY} characters"
    if not KEY.fullmatch(key):
        return "may have letters, digits, '_', '-', '.', ':', blanks, and '/' between them"
    if number(value) is None:
        return f"must be one number, found {type(value).__name__}: {str(value)[:40]!r}"
    return None


def step_of(values: Mapping[str, float], count: int) -> int:
    """Where a report stands on its curve: its ``step``, else its ``epoch``, else how many it is.

    >>> step_of({"epoch": 3, "loss": 0.1}, 17)
    3
    """
    named = (whole(values.get(key)) for key in ("step", "epoch"))
    return next((value for value in named if value is not None), count)


def whole(value: Any) -> int | None:
    """A value as a count; None when it is none, or not exact."""
    if isinstance(value, float) and value.is_integer() and value < 2**53:
        value = int(value)
    return value if isinstance(value, int) and value >= 0 else None


def joined(reports: Sequence[Mapping[str, Any]]) -> tuple[Numbers, list[Fault]]:
    """The numbers of all workers: the first one's under their names, others under ``rank_N/``."""
    found: Numbers = {}
    faults: list[Fault] = []
    for rank, report in enumerate(reports):
        values, wrong = numbers(report)
        prefix = f"rank_{rank}/" if rank else ""
        found |= {f"{prefix}{key}": value for key, value in values.items()}
        faults += [Fault(f"{prefix}{fault.where}", fault.what) for fault in wrong]
    return found, faults


def work_of(reports: Sequence[Mapping[str, Any]]) -> tuple[int, int | None]:
    """Items and FLOPs of all workers, from metrics of these names; FLOPs None unless all say."""
    items = [whole(number(report.get("items"))) for report in reports]
    flops = [whole(number(report.get("flop"))) for report in reports]
    known = [flop for flop in flops if flop is not None]
    total = sum(known) if known and len(known) == len(flops) else None
    return sum(n or 0 for n in items), total


def better(value: float, best: float | None, mode: str) -> bool:
    """Whether a value beats the best one so far; one that is not finite never does."""
    if not math.isfinite(value):
        return False
    return best is None or (value > best if mode == "max" else value < best)
