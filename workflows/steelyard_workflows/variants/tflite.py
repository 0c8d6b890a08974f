"""A LiteRT file for devices (``.tflite``), in FP32, one row a call.

Its converter, litert-torch, needs other versions of libraries than Steelyard does, so it runs in
an interpreter of its own that a setting names. What it is handed is the ONNX file's operations as
JSON and its weights as safetensors: nothing that is unpickled on either side.
"""

import subprocess
import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from steelyard.domain.errors import Refused
from steelyard.settings import load_settings
from steelyard_workflows.evaluation.runtime import Output
from steelyard_workflows.variants import litert_convert
from steelyard_workflows.variants.executorch import check_same, unwarned
from steelyard_workflows.variants.extras import absent
from steelyard_workflows.variants.graph import Graph
from steelyard_workflows.variants.kind import Bench, Kind, Made, Options, Source
from steelyard_workflows.variants.operations import hand_over

FILE, CONVERTER = "model.tflite", "converter.txt"
PACKAGE = "ai-edge-litert"
SAID = "not served by replicas: a .tflite file is for devices, and takes one row at a time"
PATIENCE_S = 1800
UNKNOWN_OPERATION = 3
"""How the converter ends when an operation has no counterpart."""


class Interpreted:
    """An opened file on one thread, like a replica's; see ``evaluation.runtime.Runtime``."""

    datatype: str | None = None
    batch: int | None = 1

    def __init__(self, content: bytes) -> None:
        with unwarned():
            from ai_edge_litert.interpreter import Interpreter

            self._interpreter = Interpreter(model_content=content, num_threads=1)
        self.name = f"{PACKAGE} {installed(PACKAGE)}"
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def answer(self, rows: NDArray[Any]) -> Output:
        """The first output for one row."""
        # The converter makes INT64 to INT32, which holds any token.
        self._interpreter.set_tensor(
            self._input["index"], rows.astype(self._input["dtype"], copy=False)
        )
        self._interpreter.invoke()
        found: Output = self._interpreter.get_tensor(self._output)
        return found


def refusal(_: Graph) -> str | None:
    """What is missing: the runtime here, or the converter's own interpreter."""
    missing = absent("ai_edge_litert", "edge")
    if missing is not None:
        return missing
    python = load_settings().litert_python
    if not python:
        return (
            "tflite is converted by litert-torch in an environment of its own: "
            "pip install litert-torch there, and set STEELYARD_LITERT_PYTHON to its python"
        )
    return None if Path(python).is_file() else f"STEELYARD_LITERT_PYTHON={python} is no file"


def make(source: Source, options: Options, bench: Bench) -> Made:
    """Convert the source's file.

    Raises:
        Refused: an operation is not known to the converter, it failed, or the file answers
            otherwise than its source.
    """
    rows = source.dataset.test.inputs
    with bench.watch.measure("compress") as work:
        hand_over(source.path, rows, bench.into)
        path = convert(load_settings().litert_python, bench.into)
        apart = check_same(Interpreted(path.read_bytes()), source.path, rows)
        work.count(2 * len(rows), source.flops)
    said = (SAID, f"converted by {(bench.into / CONVERTER).read_text()[:100]}")
    return Made(path, source.graph, source.flops, source.network, said, {"apart": apart})


def convert(python: str, folder: Path) -> Path:
    """Run the converter on what was handed over; the file that it leaves.

    Raises:
        Refused: it failed; the message has its last line.
    """
    command = [python, "-I", str(litert_convert.__file__), str(folder)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S,
                             stdin=subprocess.DEVNULL, check=False)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"The converter to LiteRT did not run: {error}") from error
    said = (ran.stdout if ran.returncode == UNKNOWN_OPERATION else ran.stderr).strip()
    if ran.returncode == UNKNOWN_OPERATION:
        raise Refused(f"The model cannot become a .tflite file: no counterpart of {said}.")
    path = folder / FILE
    if ran.returncode or not path.is_file():
        print(said, file=sys.stderr)
        raise Refused(
            f"The converter to LiteRT failed: {said.splitlines()[-1] if said else ran.returncode}",
            "Is litert-torch installed for STEELYARD_LITERT_PYTHON?",
        )
    return path


def run(source: Source) -> Interpreted:
    """The file that a step left."""
    return Interpreted(source.path.read_bytes())


KIND = Kind(
    "tflite", "exported", "file", make, doubts=lambda _: (SAID,), refusal=refusal,
    libraries=("onnx", "onnxruntime", PACKAGE), runtime=run, suffix=".tflite",
)  # fmt: skip
