"""The smallest weights set to 0, wherever they are: few bytes to store and send, no gain in time.

Dense kernels multiply zeros as well, so what is served is the dense ONNX file; the small form is
kept beside it.
"""

from collections.abc import Mapping

import torch
from safetensors.torch import save_file
from torch import nn

from steelyard.domain.errors import Refused
from steelyard_workflows.variants import learning
from steelyard_workflows.variants.kind import Bench, Kind, Made, Option, Options, Source
from steelyard_workflows.variants.learning import Lesson, learn
from steelyard_workflows.variants.narrowing import WIDE
from steelyard_workflows.variants.networks import counted, made
from steelyard_workflows.variants.packing import pack
from steelyard_workflows.variants.pruned_structured import EPOCHS, RATE, control, labels_of

SPARSE = "sparse.safetensors"
SAID = (
    "no latency gain: dense kernels multiply zeros too (measured 1.0 x); "
    f"{SPARSE} of the run is small to store and send"
)


def make(source: Source, options: Options, bench: Bench) -> Made:
    """Set weights to 0, fine-tune the others, keep the sparse form beside the dense file.

    Raises:
        Refused: there are no layers to prune, the fine-tuning diverged, or the result cannot be
            exported.
    """
    network = source.present()
    with bench.watch.measure("compress") as work:
        masks = smallest(network, float(options["sparsity"]))
        work.count(0, source.flops)
    zero(network, masks)
    asked = learning.lesson("pruned", source, options)
    held = Lesson(asked.name, asked.epochs, asked.learning_rate, asked.seed,
                  lambda network: zero(network, masks))  # fmt: skip
    learn(network, source, held, labels_of(source), counted(network, source), bench)
    path = bench.into / SPARSE
    save_file(pack(network.state_dict()), path)
    masked = sum(mask.numel() for mask in masks.values())
    figures = {
        "zeros": 1 - sum(int(mask.sum()) for mask in masks.values()) / masked,
        "sparse_bytes": float(path.stat().st_size),
    }
    return made(network, source, bench, (SAID,), figures | control(source, options, bench), (path,))


def smallest(network: nn.Module, share: float) -> dict[str, torch.Tensor]:
    """Of each weight of linear and convolutional layers: does it stay? ``share`` of all go.

    Raises:
        Refused: there is no such layer.
    """
    weights = {f"{name}.weight": module.weight.detach()
               for name, module in network.named_modules() if isinstance(module, WIDE)}  # fmt: skip
    if not weights:
        raise Refused("The network has neither linear nor convolutional layers to prune.")
    sizes = torch.cat([weight.abs().flatten() for weight in weights.values()])
    threshold = sizes.kthvalue(max(1, round(share * len(sizes)))).values
    return {name: weight.abs() > threshold for name, weight in weights.items()}


@torch.no_grad()
def zero(network: nn.Module, masks: Mapping[str, torch.Tensor]) -> None:
    """Set to 0 what the masks leave out."""
    for name, mask in masks.items():
        network.get_parameter(name).mul_(mask)


KIND = Kind(
    "pruned_unstructured", "pruned", "network", make,
    {"sparsity": Option(0.9, "share of the weights that become 0", 0.05, 0.99),
     "epochs": EPOCHS, "learning_rate": RATE, "seed": learning.SEED, "control": learning.CONTROL},
    lambda _: (SAID,), libraries=("onnx", "onnxscript", "safetensors", "torch"), weights=True,
)  # fmt: skip
