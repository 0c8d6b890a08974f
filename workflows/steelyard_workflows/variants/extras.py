"""Kinds whose library is not installed refuse before anything is started."""

from importlib.util import find_spec


def absent(package: str, extra: str) -> str | None:
    """Why a kind cannot work here; None when its package is there.

    >>> absent("no_such_package", "edge")
    'no_such_package is not installed: pip install "steelyard[edge]"'
    """
    if find_spec(package) is not None:
        return None
    return f'{package} is not installed: pip install "steelyard[{extra}]"'
