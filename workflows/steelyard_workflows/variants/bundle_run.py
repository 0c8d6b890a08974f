"""Answers rows with the model beside this file. Needs onnxruntime and numpy, nothing else.

python run.py                           check the files and the answers to the rows that came along
python run.py rows.npy answers.npy      the same, then answer these rows

Exit codes: 0 well, 1 a file was changed or the answers are not those expected, 2 bad rows.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

HERE = Path(__file__).resolve().parent
BATCH = 256
USAGE = "usage: python run.py [ROWS.npy ANSWERS.npy]"


class Broken(Exception):
    """The files are not those that were packed, or do not answer here as they should."""


class BadRows(Exception):
    """These rows are not what the model takes."""


def read(manifest: dict[str, Any], name: str) -> bytes:
    """A file's bytes, once, and checked: what is used is what was checked."""
    content = (HERE / name).read_bytes()
    found, packed = hashlib.sha256(content).hexdigest(), manifest["files"][name]["sha256"]
    if found != packed:
        raise Broken(f"{name} was changed: its SHA-256 is {found}, packed was {packed}")
    return content


def open_model(manifest: dict[str, Any], content: bytes) -> onnxruntime.InferenceSession:
    """The model on one thread that does not spin: what its figures were measured with."""
    least, here = manifest["onnxruntime"]["least"], onnxruntime.__version__
    if [int(n) for n in here.split(".")[:2]] < [int(n) for n in least.split(".")[:2]]:
        raise Broken(f"the model needs onnxruntime {least} or later, here is {here}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def answer(model: onnxruntime.InferenceSession, rows: Any) -> Any:
    """The model's first output for all rows, a batch at a time."""
    name = model.get_inputs()[0].name
    batches = (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
    return np.concatenate([model.run(None, {name: batch})[0] for batch in batches])


def check(
    manifest: dict[str, Any], contents: dict[str, bytes], model: onnxruntime.InferenceSession
) -> str:
    """Answer the rows that came along; what was found, in a line."""
    rows, expected = (
        np.load(io.BytesIO(contents[name]), allow_pickle=False)
        for name in ("check_rows.npy", "check_answers.npy")
    )
    found, tolerance = answer(model, rows), manifest["check"]["tolerance"]
    if found.shape != expected.shape:
        raise Broken(f"answers have the shape {found.shape}, expected is {expected.shape}")
    worst = float(np.abs(found - expected).max()) / max(1.0, float(np.abs(expected).max()))
    if not worst <= tolerance:
        raise Broken(f"answers are {worst:.1e} apart, allowed is {tolerance:.0e}")
    return f"{manifest['model']}: files and {len(rows)} answers as packed ({worst:.1e} apart)"


def load_rows(manifest: dict[str, Any], path: str) -> Any:
    """The rows of a .npy file in the form that the model takes; nothing is unpickled."""
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadRows(f"{path} is not a .npy file of numbers: {error}") from error
    dtype, shape = manifest["check"]["dtype"], manifest["check"]["row_shape"]
    if not isinstance(rows, np.ndarray) or not rows.ndim * rows.size or str(rows.dtype) != dtype:
        raise BadRows(f"{path} holds no rows of {dtype}")
    if list(rows.shape[1:]) != shape:
        raise BadRows(f"{path} has rows of {list(rows.shape[1:])}, the model takes {shape}")
    return rows


def main(arguments: list[str]) -> int:
    """Check, then answer; the exit code."""
    if len(arguments) not in (0, 2):
        print(USAGE, file=sys.stderr)
        return 2
    try:
        manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
        contents = {name: read(manifest, name) for name in manifest["files"]}
        model = open_model(manifest, contents["model.onnx"])
        print(check(manifest, contents, model), file=sys.stderr)
        if arguments:
            np.save(arguments[1], answer(model, load_rows(manifest, arguments[0])))
    except BadRows as error:
        print(f"bad rows: {error}", file=sys.stderr)
        return 2
    except (Broken, OSError, KeyError, ValueError) as error:
        print(f"not used: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
