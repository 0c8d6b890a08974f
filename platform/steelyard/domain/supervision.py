"""What the supervisor runs and when it tries again: specifications and pure rules."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Probe:
    """How to tell that a process works: GET ``url`` answers 200, or ``host:port`` accepts."""

    url: str | None = None
    address: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process of the platform.

    ``after`` names processes that must be healthy first. ``ports`` maps a setting's name to the
    (host, port) it binds, so that a taken port is reported by the setting to change.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    probe: Probe | None = None
    after: tuple[str, ...] = ()
    ports: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    start_timeout_s: float = 60.0
    stop_timeout_s: float = 10.0


def backoff_s(failures: int) -> float:
    """Seconds to wait before restart number ``failures``: at once, then doubling up to 30.

    >>> [backoff_s(n) for n in (1, 2, 3, 4, 10)]
    [0.0, 0.5, 1.0, 2.0, 30.0]
    """
    if failures <= 1:
        return 0.0
    return min(30.0, 0.5 * 2.0 ** min(failures - 2, 6))  # the exponent has a limit: no overflow
