"""Networks that installed packages registered, by name."""

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from steelyard.domain.errors import Refused

ARCHITECTURES = "steelyard.architectures"
"""Entry points that make a network from hyper-parameters: the only code that weights get."""


def architecture(name: str) -> "Callable[..., Any]":
    """What makes a network of a registered architecture from its hyper-parameters.

    Raises:
        Refused: nobody registered it here, or what it needs is not installed.
    """
    for point in entry_points(group=ARCHITECTURES, name=name):
        try:
            made: Callable[..., Any] = point.load()
        except ImportError as error:
            raise Refused(f"The architecture {name} does not load here: {error}.") from error
        return made
    known = ", ".join(sorted(entry_points(group=ARCHITECTURES).names)) or "none"
    raise Refused(
        f"The architecture {name[:100]!r} is not registered here; registered: {known}.",
        f"Install the distribution that has it among its entry points {ARCHITECTURES}.",
    )


def architecture_of(network: type) -> str | None:
    """Under which name a network's class is registered here, if it is."""
    place = f"{network.__module__}:{network.__qualname__}"
    points = entry_points(group=ARCHITECTURES)
    return next((point.name for point in points if point.value == place), None)
