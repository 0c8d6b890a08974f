"""Fewer channels in every layer, then a few epochs to learn with the rest.

The control is the dense parent after the same extra epochs: what training longer does is not
counted for the pruning.
"""

from steelyard_workflows.variants import learning
from steelyard_workflows.variants.graph import Graph
from steelyard_workflows.variants.kind import Bench, Kind, Made, Option, Options, Source
from steelyard_workflows.variants.learning import Objective, learn
from steelyard_workflows.variants.narrowing import narrow
from steelyard_workflows.variants.networks import counted, made, parameters


def make(source: Source, options: Options, bench: Bench) -> Made:
    """Prune and fine-tune the network.

    Raises:
        Refused: channels cannot be taken out, the fine-tuning diverged, or the result cannot be
            exported.
    """
    network = source.present()
    before = parameters(network)
    with bench.watch.measure("compress") as work:
        narrow(network, source, float(options["ratio"]), int(options["round_to"]))
        work.count(0, source.flops)
    learn(network, source, learning.lesson("pruned", source, options), labels_of(source),
          counted(network, source), bench)  # fmt: skip
    figures = {"parameters": float(parameters(network)), "parameters_before": float(before)}
    return made(network, source, bench, figures=figures | control(source, options, bench))


def labels_of(source: Source) -> Objective:
    """The recipe's own loss."""
    return lambda logits, labels, _: source.recipe.loss(logits, labels)


def control(source: Source, options: Options, bench: Bench) -> dict[str, float]:
    """Accuracy on the test rows of the dense parent after the same extra epochs; maybe none."""
    if not options["control"] or not options["epochs"]:
        return {}
    dense = source.parent()
    profile = counted(dense, source)
    learn(dense, source, learning.lesson("control", source, options), labels_of(source), profile,
          bench)  # fmt: skip
    test = source.dataset.test
    return {"control_accuracy": learning.accuracy(dense, test, profile, bench)}


def refusal(found: Graph) -> str | None:
    """Attention's widths belong to each other; layers can go instead."""
    if not found.attention:
        return None
    return (
        "pruned_structured does not suit attention: widths are shared by the whole network and "
        "split into heads. Use layer_drop, or layer_drop+distilled."
    )


EPOCHS = Option(2, "epochs to learn after the step", 0, 1000)
RATE = Option(0.0, "learning rate; 0: half of the workflow's", 0.0, 10.0)

KIND = Kind(
    "pruned_structured", "pruned", "network", make,
    {"ratio": Option(0.5, "share of the channels that go", 0.05, 0.95),
     "round_to": Option(8, "widths stay multiples of it", choices=(1, 2, 4, 8, 16, 32)),
     "epochs": EPOCHS, "learning_rate": RATE, "seed": learning.SEED, "control": learning.CONTROL},
    refusal=refusal, libraries=("onnx", "onnxscript", "torch", "torch-pruning"), weights=True,
)  # fmt: skip
