"""Fewer layers of a transformer, evenly spread, then a few epochs to learn with the rest."""

from steelyard_workflows.variants import learning
from steelyard_workflows.variants.kind import Bench, Kind, Made, Option, Options, Source
from steelyard_workflows.variants.learning import learn
from steelyard_workflows.variants.narrowing import half, shorten
from steelyard_workflows.variants.networks import counted, made, parameters
from steelyard_workflows.variants.pruned_structured import EPOCHS, RATE, control, labels_of


def make(source: Source, options: Options, bench: Bench) -> Made:
    """Take layers out and fine-tune the network.

    Raises:
        Refused: there is no list of equal layers, the fine-tuning diverged, or the result cannot
            be exported.
    """
    network = source.present()
    before = parameters(network)
    shorten(network, source, int(options["layers"]) or half(network))
    learn(network, source, learning.lesson("layer_drop", source, options), labels_of(source),
          counted(network, source), bench)  # fmt: skip
    figures = {"parameters": float(parameters(network)), "parameters_before": float(before)}
    return made(network, source, bench, figures=figures | control(source, options, bench))


KIND = Kind(
    "layer_drop", "pruned", "network", make,
    {"layers": Option(0, "layers that stay; 0: half of them", 0, 1000),
     "epochs": EPOCHS, "learning_rate": RATE, "seed": learning.SEED, "control": learning.CONTROL},
    libraries=("onnx", "onnxscript", "torch"), weights=True,
)  # fmt: skip
