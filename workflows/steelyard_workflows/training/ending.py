"""A run that ends before its time, on all workers at once, and is not tried again."""

from typing import Literal

EndKind = Literal["diverged", "refused"]


class Ended(Exception):
    """Raised inside a worker at the same step on all of them; ``reason`` is for people.

    ``diverged``: the loss is not a finite number. ``refused``: the machine cannot do what the
    workflow asks for. Starting again would end the same way.
    """

    def __init__(self, kind: EndKind, reason: str) -> None:
        super().__init__(reason)
        self.kind: EndKind = kind
        self.reason = reason


def diverged(what: str, value: float, epoch: int, step: int) -> Ended:
    """The end of a run whose loss is no number any more."""
    return Ended("diverged", f"the {what} was {value} in epoch {epoch}, step {step}")
