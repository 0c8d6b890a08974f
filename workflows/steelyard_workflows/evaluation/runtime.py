"""What a file is run by: the libraries of the replicas, opened as they open them, and any other."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from steelyard.bootstrap.runtimes import runtime_session
from steelyard.domain.errors import Refused
from steelyard.domain.model_version import ONNXRUNTIME, ModelVersion
from steelyard.ports.model_session import ModelSession

Rows = NDArray[Any]
Output = NDArray[np.float32]


class Runtime(Protocol):
    """An opened file. ``name`` is the distribution that computes and its version.

    ``datatype`` is None unless it computes in something that the kind of the file does not say.
    ``batch`` is the only number of rows that it takes at once, None: any. It is 1 where there is
    such a limit, because evidence has the latency of single rows.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def datatype(self) -> str | None: ...  # noqa: D102

    @property
    def batch(self) -> int | None: ...  # noqa: D102

    def answer(self, rows: Rows) -> Output:
        """The first output for these rows; others are computed with it."""
        ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A file in a session like a replica's."""

    name: str
    session: ModelSession
    datatype: str | None = None
    batch: int | None = None

    def answer(self, rows: Rows) -> Output:
        """The first output for these rows; others are computed with it."""
        found: Output = self.session.run(None, {self.session.inputs[0]: rows})[0]
        return found


def opened(path: Path, library: str = ONNXRUNTIME) -> Opened:
    """An ONNX file in one of the replicas' runtimes.

    Raises:
        Refused: the library is none of them, or is not installed.
    """
    session = runtime_session(library, path.read_bytes())
    return Opened(f"{library} {version(library)}", session)


def check_runs(version: ModelVersion) -> None:
    """Refuse a version that none of the replicas' runtimes opens.

    Raises:
        Refused: its file is of another form, or for another library.
    """
    if not version.servable:
        raise Refused(
            f"{version.name} ({version.variant}) is {version.artifact} for {version.runtime}: "
            "nothing here runs it."
        )


def library_of(runtime: Runtime) -> str:
    """The distribution that computes, without its version: what a version's ``runtime`` says."""
    return runtime.name.partition(" ")[0]


def outputs_of(runtime: Runtime, rows: Rows) -> Output:
    """The first output for any number of rows: a runtime with one batch size gets no other."""
    size = runtime.batch
    if size is None:
        return runtime.answer(rows)
    found = [
        runtime.answer(np.resize(rows[start : start + size], (size, *rows.shape[1:])))
        for start in range(0, len(rows), size)
    ]
    return np.concatenate(found)[: len(rows)]
