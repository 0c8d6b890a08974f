"""Early stopping as a pure rule, so that every worker comes to the same verdict."""

from dataclasses import dataclass, replace

from steelyard_workflows.workflow import EarlyStopping


@dataclass(frozen=True, slots=True)
class Progress:
    """The best value so far and how many epochs brought no improvement since."""

    best: float | None = None
    stale: int = 0


def observe(progress: Progress, value: float, rule: EarlyStopping) -> Progress:
    """What is known after one more epoch. A gain below ``min_delta`` is no improvement.

    >>> rule = EarlyStopping(patience=2)
    >>> observe(observe(Progress(), 0.5, rule), 0.6, rule)
    Progress(best=0.5, stale=1)
    """
    if progress.best is None:
        return Progress(value)
    gain = value - progress.best if rule.mode == "max" else progress.best - value
    if gain > 0 and gain >= rule.min_delta:
        return Progress(value)
    return replace(progress, stale=progress.stale + 1)


def should_stop(progress: Progress, rule: EarlyStopping) -> bool:
    """Whether patience has run out."""
    return progress.stale >= rule.patience
