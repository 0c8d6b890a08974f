"""The training side: workflows, Ray Train, evidence, compression, registration.

What a recipe of your own is made of, and the two calls for a loop of your own, can be imported
from here; each name brings its module, and torch where that needs it, when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steelyard_workflows.data import Dataset, Split
    from steelyard_workflows.recipe import Recipe, from_torch
    from steelyard_workflows.user_code.plain import checkpoint, report
    from steelyard_workflows.workflow import (
        Checkpoints,
        Data,
        EarlyStopping,
        Failure,
        Limits,
        Scaling,
        Train,
        Workflow,
    )

MODULES = {
    "Checkpoints": "workflow",
    "Data": "workflow",
    "Dataset": "data",
    "EarlyStopping": "workflow",
    "Failure": "workflow",
    "Limits": "workflow",
    "Recipe": "recipe",
    "Scaling": "workflow",
    "Split": "data",
    "Train": "workflow",
    "Workflow": "workflow",
    "checkpoint": "user_code.plain",
    "from_torch": "recipe",
    "report": "user_code.plain",
}

__all__ = [
    "Checkpoints",
    "Data",
    "Dataset",
    "EarlyStopping",
    "Failure",
    "Limits",
    "Recipe",
    "Scaling",
    "Split",
    "Train",
    "Workflow",
    "checkpoint",
    "from_torch",
    "report",
]


def __getattr__(name: str) -> Any:
    """Import an exported name at its first use."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{MODULES[name]}"), name)
