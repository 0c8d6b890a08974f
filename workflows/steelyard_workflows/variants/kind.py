"""What every kind of variant is made of: its options, what it starts from, what it leaves.

A kind is a module with one ``make(source, options, bench)``. Kinds that change the network come
first, the last step may write another file; each books what it computes on the bench's watch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import nn

from steelyard.domain.errors import Refused
from steelyard.domain.model_version import FlopsProfile, ModelVersion, Relation
from steelyard_workflows.booking.metering import Stopwatch
from steelyard_workflows.data import Dataset
from steelyard_workflows.evaluation.runtime import Runtime, opened
from steelyard_workflows.recipe import Recipe
from steelyard_workflows.variants.graph import Graph
from steelyard_workflows.workflow import Workflow

Value = bool | int | float | str
Options = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Option:
    """A setting of a kind: its default, whose type it has, and its range (both ends belong)."""

    default: Value
    meaning: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Value, ...] = ()


@dataclass(frozen=True)
class Source:
    """What a variant is made from: the parent, its verified file, its data, its trained network.

    ``state`` are the trained weights, None where no step needs them. ``network`` is what earlier
    steps made of it, None before the first one. ``flops`` are those of the present network.
    ``calibration`` are training rows.
    """

    version: ModelVersion
    path: Path
    workflow: Workflow
    recipe: Recipe
    dataset: Dataset
    calibration: NDArray[Any]
    graph: Graph
    flops: FlopsProfile | None
    state: Mapping[str, torch.Tensor] | None = None
    network: nn.Module | None = None

    def parent(self) -> nn.Module:
        """The trained network, built anew.

        Raises:
            Refused: its weights are not at hand.
        """
        if self.state is None:
            raise Refused(f"The trained weights of {self.version.name} were not loaded.")
        network = self.recipe.build(self.workflow)
        network.load_state_dict(self.state)
        return network.eval()

    def present(self) -> nn.Module:
        """The network as earlier steps left it; the trained one before the first."""
        return self.parent() if self.network is None else self.network

    def after(self, made: "Made") -> "Source":
        """The source of the next step."""
        return replace(self, path=made.path, network=made.network, graph=made.graph,
                       flops=made.flops)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Made:
    """What a step leaves: a file, the network that it came from, the file's graph, its FLOPs.

    ``said`` are remarks that belong to the variant wherever it is shown, ``figures`` what was
    measured while it was made, ``files`` what is kept beside it.
    """

    path: Path
    graph: Graph
    flops: FlopsProfile | None
    network: nn.Module | None = None
    said: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a step works: a folder of its own, and the watch that books what it does.

    ``variant`` and ``recipe_sha256`` are what all steps together make, and its recipe's digest.
    """

    into: Path
    watch: Stopwatch
    variant: str = ""
    recipe_sha256: str | None = None


Make = Callable[[Source, Options, Bench], Made]
Doubts = Callable[[Graph], tuple[str, ...]]


def no_doubts(_: Graph) -> tuple[str, ...]:
    """For kinds that suit every model."""
    return ()


def in_onnxruntime(source: Source) -> Runtime:
    """For files that a replica runs by default."""
    return opened(source.path)


@dataclass(frozen=True, slots=True)
class Kind:
    """How a variant is made and what it is to its parent.

    ``step`` says what it changes: the network, only the file, or nothing: a package holds the
    ONNX file that earlier steps left. ``doubts`` are reasons why it may not pay for a model, said
    before and beside the measured figures; a kind that cannot work is refused by ``make`` or by
    ``refusal`` before anything is started. ``calibrated``: it
    reads training rows; ``weights``: it needs the trained network, not its file alone.
    ``runtime`` opens the file that the step left, to be judged and, where replicas have that
    runtime, served. ``suffix`` is that of the file.
    """

    name: str
    relation: Relation
    step: Literal["network", "file", "package"]
    make: Make
    options: Mapping[str, Option] = field(default_factory=dict)
    doubts: Doubts = no_doubts
    refusal: Callable[[Graph], str | None] = lambda _: None
    calibrated: bool = False
    libraries: tuple[str, ...] = ()
    weights: bool = False
    runtime: Callable[[Source], Runtime] = in_onnxruntime
    suffix: str = ".onnx"
