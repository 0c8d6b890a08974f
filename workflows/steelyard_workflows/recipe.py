"""A recipe: what a workflow trains, apart from how. Built in, or from the user's own code.

Two functions make one: ``data`` gives the rows, ``network`` the module. A user's recipe is any
function without parameters that returns a ``Recipe``; a workflow names it ``module:function``.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils.data
from torch import nn

from steelyard.domain.errors import Fault, InvalidInput
from steelyard_workflows.data import Dataset, Split
from steelyard_workflows.own_code import imported
from steelyard_workflows.workflow import Workflow

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over all labels: logits [n, ..., classes], labels [n, ...] int64."""
    return nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())


@dataclass(frozen=True, slots=True)
class Recipe:
    """Data, network and loss of a workflow, and the workflow that they are run with by default.

    ``network`` gives logits [n, ..., classes] for inputs [n, ...]; its weights are drawn after
    ``torch.manual_seed``, the same on every worker. ``loss`` is a mean over the labels.
    """

    workflow: Workflow
    data: Callable[[Workflow], Dataset]
    network: Callable[[Workflow], nn.Module]
    loss: Loss = cross_entropy

    def build(self, workflow: Workflow) -> nn.Module:
        """The network with the weights that the workflow's seed draws."""
        torch.manual_seed(workflow.train.seed)
        return self.network(workflow)


def named(name: str, folder: Path | None = None) -> Recipe:
    """The built-in recipe of a name, or what ``module:function`` returns.

    ``folder`` is where the user's modules are, the current one by default.

    Raises:
        InvalidInput: there is no such recipe, or it cannot be imported.
    """
    # By name, because each of these modules imports this one.
    built_in = importlib.import_module("steelyard_workflows.recipes").RECIPES
    if name in built_in:
        ready: Recipe = built_in[name]()
        return ready
    module, colon, function = name.partition(":")
    if not (colon and module and function):
        known = ", ".join(sorted(built_in))
        raise _unusable(f"{name!r} is unknown; one of: {known}; or module:function of your own")
    folder = folder or Path.cwd()
    try:
        made = imported(name, folder)()
    except Exception as error:  # whatever the user's code raises is the user's to see
        raise _unusable(
            f"{name!r} does not load from {folder}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, Recipe):
        raise _unusable(f"{name!r} returns {type(made).__name__}, not a steelyard_workflows Recipe")
    return made


def of(workflow: Workflow) -> Recipe:
    """The recipe that a workflow names.

    Raises:
        InvalidInput: it cannot be found or imported.
    """
    return named(workflow.recipe)


def from_torch(
    train: torch.utils.data.Dataset[Any],
    validation: torch.utils.data.Dataset[Any],
    test: torch.utils.data.Dataset[Any],
) -> Dataset:
    """The rows of three torch datasets, read once: each item is an input and its label.

    Items are numbered through, so the three count as disjoint. Labels become int64.

    Raises:
        InvalidInput: a dataset is empty or has no length, or its inputs differ in shape.
    """
    first, splits = 0, []
    for name, source in (("train", train), ("validation", validation), ("test", test)):
        splits.append(_read(name, source, first))
        first += len(splits[-1])
    return Dataset(*splits)


def _read(name: str, source: Any, first: int) -> Split:
    if not hasattr(source, "__len__") or not len(source):
        fault = Fault(name, "is empty, or is a stream without a length")
        raise InvalidInput(str(fault), (fault,), "Give a torch Dataset with __len__ and rows.")
    items = [source[n] for n in range(len(source))]
    inputs = [torch.as_tensor(one) for one, _ in items]
    labels = [torch.as_tensor(label, dtype=torch.int64) for _, label in items]
    try:
        stacked = torch.stack(inputs).numpy(), torch.stack(labels).numpy()
    except RuntimeError as error:
        fault = Fault(name, f"its rows do not fit together: {error}")
        raise InvalidInput(str(fault), (fault,)) from error
    return Split(*stacked, np.arange(first, first + len(items), dtype=np.int64))


def _unusable(what: str) -> InvalidInput:
    fault = Fault("recipe", what)
    return InvalidInput(str(fault), (fault,), "See docs/reference/workflow.md.")
