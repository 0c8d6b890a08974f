"""What a run starts from: the recipe's network and rows, and the FLOPs of one of them."""

from dataclasses import dataclass

from torch import nn

from steelyard.domain.model_version import FlopsProfile
from steelyard_workflows import data, flops, recipe
from steelyard_workflows.data import Dataset
from steelyard_workflows.recipe import Recipe
from steelyard_workflows.trial import classes_of
from steelyard_workflows.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Loaded:
    """A workflow's recipe, its network with the seed's weights, its rows, its FLOPs profile."""

    recipe: Recipe
    network: nn.Module
    dataset: Dataset
    profile: FlopsProfile


def loaded(workflow: Workflow) -> Loaded:
    """Import the recipe, build its network, load its rows, count its FLOPs.

    Raises:
        InvalidInput: the recipe cannot be imported, its data cannot be learned from, or its
            network does not fit the data.
    """
    made = recipe.of(workflow)
    network, dataset = made.build(workflow), data.load(made.data, workflow)
    classes = classes_of(network, dataset)
    profile = flops.profile_of(network, dataset.train, classes, made.loss)
    return Loaded(made, network, dataset, profile)
