"""Every error that Steelyard raises on purpose, as one tree.

::

    SteelyardError
    ├── InvalidInput      what was handed in is malformed; carries every fault at once
    ├── NotFound          a model, version, rollout or prediction that does not exist
    ├── Conflict          it exists, but its state does not allow the act
    ├── Refused           a policy or a check says no: digest, readiness, evidence
    └── Unavailable       the world is not there: platform down, port taken, time-out

An HTTP status or an exit code is chosen only at the edge (``api/errors``, ``cli/app``).
"""

import errno
from dataclasses import dataclass

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class SteelyardError(Exception):
    """The root. ``message`` names the thing and what was found, ``hint`` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in an input: where (``train.epochs``, line 7) and what."""

    where: str
    what: str
    line: int | None = None

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line is not None else ""
        return f"{place}{self.where}: {self.what}"


class InvalidInput(SteelyardError):
    """Malformed input. ``faults`` lists all of them, so that one round is enough to mend it."""

    def __init__(self, message: str, faults: tuple[Fault, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint)
        self.faults = faults


class NotFound(SteelyardError):
    """The named thing does not exist."""


class Conflict(SteelyardError):
    """The thing is in a state that does not allow this act."""


class Refused(SteelyardError):
    """A check or a policy says no; nothing was changed."""


class Unavailable(SteelyardError):
    """A part of the platform does not answer or cannot be had."""


def is_full(error: OSError) -> bool:
    """Whether a write failed for want of room: on the disk, in a quota, or in one file.

    >>> is_full(OSError(errno.ENOSPC, "No space left on device"))
    True
    """
    return error.errno in FULL
