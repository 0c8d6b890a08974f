"""What a device takes with it: the ONNX file, how to run it, and proof that it runs right there.

The self-test's rows are a few of the training rows: a device that answers them as they were
answered here computes the model, whatever its processor. The bundle may come after any kind that
leaves an ONNX file.
"""

import io
from dataclasses import asdict
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from steelyard.bootstrap.runtimes import runtime_session
from steelyard.domain.model_version import ONNXRUNTIME
from steelyard_workflows.evaluation.runtime import Opened, opened
from steelyard_workflows.evaluation.weights import count_weights
from steelyard_workflows.export import TOLERANCE, signature_of
from steelyard_workflows.variants import bundle_file, bundle_run
from steelyard_workflows.variants.bundle_file import FILE
from steelyard_workflows.variants.kind import Bench, Kind, Made, Option, Options, Source

FORMAT = 1
LEAST = ((9, 20, "1.17"), (10, 21, "1.18"))
"""IR version and opset that a release of onnxruntime reads, from its table of versions."""
ROUNDED = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "MatMulNBits"})
"""Operations where another processor may round to the other side; FP16 weights are alike."""
ROUNDED_TOLERANCE = 0.1
"""Measured: 0.044 between the integer kernels and the same graph in FP32 (ResNet, INT8)."""
SAID = "not served by replicas: a bundle is for devices"


def make(source: Source, options: Options, bench: Bench) -> Made:
    """Pack the source's file.

    Raises:
        Refused: a file in it would be too large.
    """
    path = bench.into / FILE
    with bench.watch.measure("compress") as work:
        rows = check_rows(source, options)
        manifest = _manifest(source, bench, rows, str(options["check_from"]))
        files = {
            "README.md": readme(manifest).encode(),
            "run.py": Path(bundle_run.__file__).read_bytes(),
            "check_rows.npy": _npy(rows),
            "check_answers.npy": _npy(opened(source.path).answer(rows)),
            bundle_file.MODEL: source.path.read_bytes(),
        }
        bundle_file.write(path, manifest, files)
        work.count(len(rows), source.flops)
    said = (SAID, f"{FILE} holds {len(rows)} training rows for its self-test")
    return Made(path, source.graph, source.flops, source.network,
                said if options["check_from"] == "train" else said[:1])  # fmt: skip


def check_rows(source: Source, options: Options) -> NDArray[Any]:
    """The rows of the self-test: from everywhere in the training split, or zeros."""
    inputs, count = source.dataset.train.inputs, int(options["check_rows"])
    taken = np.ascontiguousarray(inputs[:: max(1, len(inputs) // count)][:count])
    return np.zeros_like(taken) if options["check_from"] == "zeros" else taken


def _npy(values: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


def _manifest(
    source: Source, bench: Bench, rows: NDArray[Any], origin: str
) -> dict[str, Any]:  # fmt: skip
    model, version = onnx.load(source.path), source.version
    used = {node.domain for node in model.graph.node}
    opsets = {one.domain or "ai.onnx": one.version for one in model.opset_import
              if one.domain in used}  # fmt: skip
    return {
        "format": FORMAT,
        "model": version.model,
        "variant": bench.variant,
        "recipe_sha256": bench.recipe_sha256,
        "parent": {"name": version.name, "sha256": version.sha256},
        "signature": asdict(signature_of(source.path)),
        "onnx": {"ir_version": model.ir_version, "opset": opsets},
        "onnxruntime": {"least": least(model), "tested": installed("onnxruntime")},
        "parameters": count_weights(source.path).parameters,
        "flop_per_row": source.flops.forward if source.flops else None,
        "check": {"tolerance": tolerance(model), "rows": len(rows), "from": origin,
                  "dtype": str(rows.dtype), "row_shape": list(rows.shape[1:])},
    }  # fmt: skip


def least(model: onnx.ModelProto) -> str:
    """The oldest onnxruntime that reads a model; this one where the operations are its own.

    >>> least(onnx.ModelProto(ir_version=10, opset_import=[onnx.OperatorSetIdProto(version=20)]))
    '1.18'
    """
    used = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    opset = max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    for ir_version, newest, release in LEAST:
        if not used and model.ir_version <= ir_version and opset <= newest:
            return release
    major, minor = installed("onnxruntime").split(".")[:2]
    return f"{major}.{minor}"


def tolerance(model: onnx.ModelProto) -> float:
    """How far answers may be apart, as a share of the largest where that is above 1."""
    rounds = any(node.op_type in ROUNDED for node in model.graph.node)
    halves = any(t.data_type == onnx.TensorProto.FLOAT16 for t in model.graph.initializer)
    return ROUNDED_TOLERANCE if rounds or halves else TOLERANCE


def readme(manifest: dict[str, Any]) -> str:
    """The page for whoever unpacks the bundle."""
    check, parent = manifest["check"], manifest["parent"]
    shape = " x ".join(str(n) for n in check["row_shape"])
    rows = "of the training data" if check["from"] == "train" else "zeros"
    return f"""# {manifest["model"]}, {manifest["variant"]}

Made from {parent["name"]} (SHA-256 {parent["sha256"]}).

    python -m pip install "onnxruntime>={manifest["onnxruntime"]["least"]}" numpy
    python run.py
    python run.py rows.npy answers.npy

`run.py` compares every file with its SHA-256 in `manifest.json` and answers {check["rows"]} rows
({rows}) that came along; answers that are more than {check["tolerance"]:g} apart, as a share of
the largest where that is above 1, are refused. Then it answers the rows of `rows.npy`:
{check["dtype"]}, each {shape}. `answers.npy` gets the first output.

The digests show damage, not who made the bundle. Who has the registry compares the SHA-256 of the
whole ZIP with that of its version.
"""


def run(source: Source) -> Opened:
    """The model in the bundle, every byte of it checked.

    Raises:
        Refused: the file is no bundle, or something in it was changed.
    """
    session = runtime_session(ONNXRUNTIME, bundle_file.read(source.path).model)
    return Opened(f"{ONNXRUNTIME} {installed(ONNXRUNTIME)}", session)


KIND = Kind(
    "onnx_bundle", "exported", "package", make,
    {"check_rows": Option(4, "rows that its self-test answers", 1, 64),
     "check_from": Option("train", "training rows, which leave with it; or zeros",
                          choices=("train", "zeros"))},
    lambda _: (SAID,), libraries=("numpy", "onnx", "onnxruntime"), runtime=run, suffix=".zip",
)  # fmt: skip
