"""The learning rate of a step, as a pure function: nothing to save, nothing to restore."""

import math

from steelyard_workflows.workflow import Schedule, Train


def rate(train: Train, step: int, total: int) -> float:
    """The learning rate of optimiser step ``step``, counted from 0, of ``total``.

    It rises linearly over ``warmup_steps``, then follows the schedule to 0 after the last step.

    >>> train = Train(epochs=1, batch_size=1, learning_rate=1.0, schedule="linear", warmup_steps=2)
    >>> [rate(train, step, 6) for step in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    warm_up = train.warmup_steps
    if step < warm_up:
        return train.learning_rate * (step + 1) / warm_up
    gone = (step - warm_up) / max(1, total - warm_up)
    return train.learning_rate * factor(train.schedule, min(1.0, gone))


def factor(schedule: Schedule, gone: float) -> float:
    """What part of the full rate is left when ``gone`` (0 to 1) of the steps are over."""
    if schedule == "linear":
        return 1.0 - gone
    if schedule == "cosine":
        return (1.0 + math.cos(math.pi * gone)) / 2.0
    return 1.0
