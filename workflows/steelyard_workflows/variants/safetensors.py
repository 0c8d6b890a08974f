"""The trained weights as they are, for torch: the network's own operations answer, in FP32.

For networks that ONNX says worse than torch computes. The file has weights alone; what they are
weights of is an architecture that every replica has registered.
"""

from steelyard.domain.model_version import TORCH
from steelyard_workflows.evaluation.runtime import Runtime, opened
from steelyard_workflows.variants.executorch import check_same
from steelyard_workflows.variants.kind import Bench, Kind, Made, Options, Source
from steelyard_workflows.variants.torch_file import write

SAID = "served by torch: a replica takes its memory, and a row of digits_cnn 3 x onnxruntime's time"


def make(source: Source, options: Options, bench: Bench) -> Made:
    """Write the weights, and compare the file's answers with those of the network's ONNX file.

    Raises:
        Refused: the network is no registered architecture, or the file answers otherwise.
    """
    rows = source.dataset.test.inputs
    with bench.watch.measure("compress") as work:
        path = write(source.present(), source.version.signature, bench.into, "FP32")
        apart = check_same(opened(path, TORCH), source.path, rows)
        work.count(2 * len(rows), source.flops)
    return Made(path, source.graph, source.flops, source.network, (SAID,), {"apart": apart})


def run(source: Source) -> Runtime:
    """The file in torch, as a replica opens it."""
    return opened(source.path, TORCH)


KIND = Kind(
    "safetensors", "exported", "file", make, doubts=lambda _: (SAID,),
    libraries=("safetensors", "torch"), weights=True, runtime=run, suffix=".safetensors",
)  # fmt: skip
