"""What a workflow file names ``module:function``: the user's own code, found where one starts."""

import importlib
import sys
from pathlib import Path
from typing import Any


def imported(name: str, folder: Path | None = None) -> Any:
    """What ``module:function`` names; its module is looked for in ``folder`` first.

    ``folder`` is the current one by default. Whatever importing the user's module raises is
    raised: the caller knows what the name was for.
    """
    module, _, function = name.partition(":")
    place = str(folder or Path.cwd())
    if place not in sys.path:
        sys.path.insert(0, place)
    return getattr(importlib.import_module(module), function)
