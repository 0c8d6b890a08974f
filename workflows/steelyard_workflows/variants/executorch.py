"""A program for devices without Python: ExecuTorch on XNNPACK, in FP32, one row a call.

The file is flatbuffers and has no code of its own to run. No replica serves it: it is for phones
and boards, and what is measured of it here says how it computes, not how fast a phone is.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from steelyard.domain.errors import Refused
from steelyard_workflows.evaluation.runtime import Output, Runtime, opened, outputs_of
from steelyard_workflows.export import TOLERANCE
from steelyard_workflows.variants.extras import absent
from steelyard_workflows.variants.kind import Bench, Kind, Made, Options, Source

FILE = "model.pte"
PACKAGE = "executorch"
BATCH = 256
"""Rows that are compared at once."""
SAID = "not served by replicas: a .pte program is for devices, and takes one row at a time"


class Program:
    """An opened program on one thread, like a replica's; see ``evaluation.runtime.Runtime``."""

    datatype: str | None = None
    batch: int | None = 1

    def __init__(self, content: bytes) -> None:
        with unwarned():
            from executorch.extension.pybindings import portable_lib
            from executorch.runtime import Runtime as Library

        self.name = f"{PACKAGE} {installed(PACKAGE)}"
        # Of the whole process, and before a program is loaded: there is no other way.
        portable_lib._unsafe_reset_threadpool(1)
        self._content = content
        self._forward = Library.get().load_program(content).load_method("forward")

    def answer(self, rows: NDArray[Any]) -> Output:
        """The first output for one row."""
        found: Output = self._forward.execute([torch.from_numpy(rows)])[0].numpy().copy()
        return found


def make(source: Source, options: Options, bench: Bench) -> Made:
    """Lower the network that earlier steps left.

    Raises:
        Refused: it cannot be lowered, or the program answers otherwise than the network's file.
    """
    path, rows = bench.into / FILE, source.dataset.test.inputs
    with bench.watch.measure("compress") as work:
        path.write_bytes(lowered(traced(source.present(), rows), rows))
        apart = check_same(Program(path.read_bytes()), source.path, rows)
        work.count(2 * len(rows), source.flops)
    return Made(path, source.graph, source.flops, source.network, (SAID,), {"apart": apart})


@contextmanager
def unwarned() -> Iterator[None]:
    """The library warns of its own use of old interfaces, and that it is young."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def example(rows: NDArray[Any]) -> tuple[torch.Tensor]:
    """One row of zeros: a program has one batch size, and an example stays in what is traced."""
    return (torch.from_numpy(np.zeros((1, *rows.shape[1:]), rows.dtype)),)


def traced(network: nn.Module, rows: NDArray[Any]) -> nn.Module:
    """The network as operations on one row.

    Raises:
        Refused: it does something that cannot be traced.
    """
    try:
        with unwarned():
            return torch.export.export(network.eval(), example(rows)).module()
    except Exception as error:  # whatever a network's code leads to
        raise unable(error) from error


def lowered(network: nn.Module, rows: NDArray[Any]) -> bytes:
    """The program of a traced network.

    Raises:
        Refused: an operation has no form in ExecuTorch.
    """
    with unwarned():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

    try:
        with unwarned():
            program = torch.export.export(network, example(rows))
            edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            return bytes(edge.to_executorch().buffer)
    except Exception as error:  # the library's own errors have no common kind
        raise unable(error) from error


def unable(error: Exception) -> Refused:
    """What stood in the way, in a line."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    return Refused(f"The network cannot be lowered to ExecuTorch: {said}")


def check_same(program: Runtime, file: Path, rows: NDArray[Any]) -> float:
    """Compare every answer with the ONNX file's; how far they are apart at most.

    Raises:
        Refused: by more than an export may be.
    """
    session, gaps, sizes = opened(file), [], [1.0]
    for start in range(0, len(rows), BATCH):
        expected = session.answer(rows[start : start + BATCH])
        gaps.append(np.abs(outputs_of(program, rows[start : start + BATCH]) - expected).max())
        sizes.append(float(np.abs(expected).max()))
    # numpy's maximum, because Python's leaves out what is no number.
    apart = float(np.max(gaps) / np.max(sizes))
    if not apart <= TOLERANCE:
        raise Refused(
            f"The program's answers are {apart:.2e} from those of its parent's file.",
            f"Allowed is {TOLERANCE:.0e}; nothing was registered.",
        )
    return apart


def run(source: Source) -> Program:
    """The program that a step left."""
    return Program(source.path.read_bytes())


KIND = Kind(
    "executorch", "exported", "file", make, doubts=lambda _: (SAID,),
    refusal=lambda _: absent(PACKAGE, "edge"), libraries=(PACKAGE, "torch"), weights=True,
    runtime=run, suffix=".pte",
)  # fmt: skip
