"""A version that was trained in this process, as a worker would: no Ray."""

from collections.abc import Callable

import torch
from torch import nn

from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_workflows.loading import loaded
from steelyard_workflows.publish import publish
from steelyard_workflows.tracking.run import tracked, wait_until_sent
from steelyard_workflows.tracking.run_report import keep_weights
from steelyard_workflows.workflow_file import parse


def trained(
    settings: Settings, text: str, spoil: Callable[[nn.Module], None] = lambda _: None
) -> ModelVersion:
    """A workflow's version after four epochs, registered; ``spoil`` changes what the run keeps."""
    workflow = parse(text)
    made = loaded(workflow)
    network, rows = made.network, made.dataset.train
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    inputs, labels = torch.from_numpy(rows.inputs), torch.from_numpy(rows.labels)
    torch.set_num_threads(1)  # two are many times slower where the cores are shared
    torch.manual_seed(0)
    for _ in range(4):
        for own in torch.randperm(len(rows)).split(64):
            optimizer.zero_grad()
            made.recipe.loss(network(inputs[own]), labels[own]).backward()
            optimizer.step()
    with tracked(settings, workflow, "train", {"steelyard.kind": "train"}) as run:
        version = publish(workflow, made.profile, settings, run, network, made.dataset)
        spoil(network)
        keep_weights(settings, run, network)
        wait_until_sent(settings, run)
    return version
