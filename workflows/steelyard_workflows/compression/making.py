"""The steps of a variant, one after the other, each on what the one before left."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from steelyard.cli.output import note
from steelyard.domain.model_version import FlopsProfile
from steelyard_workflows.booking.metering import Stopwatch
from steelyard_workflows.compression.order import Order
from steelyard_workflows.evaluation.runtime import Runtime
from steelyard_workflows.export import Artifact, artifact
from steelyard_workflows.variants.kind import Bench
from steelyard_workflows.variants.networks import parameters


@dataclass(frozen=True, slots=True)
class Product:
    """A finished variant: its file, what runs it, and what was said and measured of it.

    ``warnings`` are reasons why it may not pay; the evidence says whether it does.
    """

    artifact: Artifact
    runtime: Runtime
    flops: FlopsProfile | None
    parameters: int | None
    said: tuple[str, ...]
    warnings: tuple[str, ...]
    figures: Mapping[str, float]
    files: tuple[Path, ...]


def make(order: Order, into: Path, watch: Stopwatch) -> Product:
    """Carry the steps out, each in a folder of its own.

    Raises:
        Refused: a step cannot work on this model, or made nothing smaller; the message says why.
    """
    source = order.source
    said: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    figures: dict[str, float] = {}
    for number, step in enumerate(order.steps):
        folder = into / f"{number}-{step.kind.name}"
        folder.mkdir()
        warnings += step.kind.doubts(source.graph)
        bench = Bench(folder, watch, order.kind, order.sha256)
        made = step.kind.make(source, step.options, bench)
        source = source.after(made)
        said, files = said + made.said, files + made.files
        figures |= {f"{step.kind.name}/{name}": value for name, value in made.figures.items()}
    version = order.source.version
    finished = _artifact(source.path, order)
    note(
        f"  {finished.size_bytes:,} bytes, {finished.size_bytes / version.size_bytes:.2f} of "
        f"{version.size_bytes:,}"
    )
    counted = version.parameters if source.network is None else parameters(source.network)
    kept = tuple(dict((file.name, file) for file in files).values())
    runtime = order.steps[-1].kind.runtime(source)
    return Product(
        finished, runtime, source.flops, counted, said,
        tuple(w for w in warnings if w not in said), figures, kept,
    )  # fmt: skip


def _artifact(path: Path, order: Order) -> Artifact:
    if path.suffix == ".onnx":
        return artifact(path)
    # Not ONNX: it takes and gives what its parent does.
    content = path.read_bytes()
    signature = order.source.version.signature
    return Artifact(path, sha256(content).hexdigest(), len(content), signature)
