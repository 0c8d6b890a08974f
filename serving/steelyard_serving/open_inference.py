"""The Open Inference Protocol, version 2, in JSON: parse, check against a signature, encode.

Pure: bytes in, arrays out, and back. Every fault names its field, as ``inputs[0].shape: …``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.model_version import ModelVersion, Signature, TensorSpec

Array = NDArray[Any]

DTYPES: dict[str, str] = {
    "BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
    "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "FP16": "float16", "FP32": "float32", "FP64": "float64",
}  # fmt: skip
BATCH_LIMIT = 4096
"""Most rows in one request: the first dimension, where the signature leaves it open."""

ELEMENT_LIMIT = 4_000_000
"""Most numbers in one tensor, whatever its shape says."""


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request that fits the signature. ``wanted`` names the outputs to return, in order."""

    inputs: Mapping[str, Array]
    items: int
    wanted: tuple[str, ...]
    request_id: str | None = None


def parse(body: bytes, signature: Signature) -> InferRequest:
    """Read an inference request.

    Raises:
        InvalidInput: the body is no JSON, a field is missing or malformed, or a tensor does not
            fit the signature. The message names the first such field.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _invalid("body", f"is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise _invalid("body", "must be an object")
    request_id = document.get("id")
    if request_id is not None and not (isinstance(request_id, str) and len(request_id) <= 256):
        raise _invalid("id", "must be a string of at most 256 characters")
    if not isinstance(document.get("parameters", {}), dict):
        raise _invalid("parameters", "must be an object")
    inputs = _inputs(document.get("inputs"), signature.inputs)
    return InferRequest(
        inputs=inputs,
        items=_items(inputs, signature.inputs),
        wanted=_wanted(document.get("outputs"), signature.outputs),
        request_id=request_id,
    )


def encode(
    version: ModelVersion, request: InferRequest, outputs: Mapping[str, Array], prediction_id: str
) -> bytes:
    """The answer to a request; ``data`` is flat and row-major.

    Raises:
        ValueError: an output holds NaN or infinity, which JSON cannot say.
    """
    answer: dict[str, Any] = {
        "model_name": version.model,
        "model_version": str(version.version),
        "parameters": {"prediction_id": prediction_id},
        "outputs": [_output(spec, outputs[spec.name]) for spec in _ordered(version, request)],
    }
    if request.request_id is not None:
        answer["id"] = request.request_id
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def metadata(version: ModelVersion) -> bytes:
    """The model metadata answer: names, types and shapes, −1 for an open dimension."""
    return orjson.dumps({
        "name": version.model,
        "versions": [str(version.version)],
        "platform": "onnx_onnxv1",
        "inputs": [_described(spec) for spec in version.signature.inputs],
        "outputs": [_described(spec) for spec in version.signature.outputs],
    })  # fmt: skip


def ready(version: ModelVersion) -> bytes:
    """The model readiness answer of a loaded version."""
    return orjson.dumps({"name": version.model, "ready": True})


def error(message: str) -> bytes:
    """The body of every answer that is not a success."""
    return orjson.dumps({"error": message})


def zeros(signature: Signature) -> dict[str, Array]:
    """One item of zeros, for warming up and for probing."""
    return {
        spec.name: np.zeros([1 if n < 0 else n for n in spec.shape], DTYPES[spec.datatype])
        for spec in signature.inputs
    }


def zero_request(signature: Signature) -> bytes:
    """An inference request of one item of zeros."""
    tensors = [
        {"name": spec.name, "datatype": spec.datatype, "shape": list(value.shape),
         "data": value.ravel().tolist()}
        for spec, value in zip(signature.inputs, zeros(signature).values(), strict=True)
    ]  # fmt: skip
    return orjson.dumps({"inputs": tensors})


def classes(outputs: Mapping[str, Array], signature: Signature) -> tuple[int, ...] | None:
    """The arg max of each row of the first output, when that looks like a small classifier's."""
    first = outputs.get(signature.outputs[0].name)
    if first is None or first.ndim != 2 or not 2 <= first.shape[1] <= 1000 or len(first) > 64:
        return None
    return tuple(first.argmax(axis=1).tolist())


def _inputs(given: Any, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    if not isinstance(given, list) or not given:
        raise _invalid("inputs", "must be a list of tensors")
    by_name = {spec.name: spec for spec in specs}
    arrays: dict[str, Array] = {}
    for index, tensor in enumerate(given):
        where = f"inputs[{index}]"
        if not isinstance(tensor, dict):
            raise _invalid(where, "must be an object")
        name = tensor.get("name")
        if not isinstance(name, str) or name not in by_name:
            raise _invalid(f"{where}.name", f"must be one of {_names(specs)}, found {_brief(name)}")
        if name in arrays:
            raise _invalid(f"{where}.name", f"{name} is given twice")
        arrays[name] = _tensor(where, tensor, by_name[name])
    missing = [spec.name for spec in specs if spec.name not in arrays]
    if missing:
        raise _invalid("inputs", f"{', '.join(missing)} is missing")
    return arrays


def _tensor(where: str, tensor: dict[str, Any], spec: TensorSpec) -> Array:
    datatype = tensor.get("datatype")
    if datatype != spec.datatype:
        raise _invalid(f"{where}.datatype", f"must be {spec.datatype}, found {_brief(datatype)}")
    shape = _shape(where, tensor.get("shape"), spec)
    if "data" not in tensor:
        raise _invalid(f"{where}.data", "is missing; binary data is not offered")
    return _data(f"{where}.data", tensor["data"], spec.datatype, shape)


def _shape(where: str, shape: Any, spec: TensorSpec) -> tuple[int, ...]:
    field = f"{where}.shape"
    # bool is an int in Python, but true is not a dimension.
    if not isinstance(shape, list) or not all(type(n) is int for n in shape):
        raise _invalid(field, "must be a list of whole numbers")
    fits = len(shape) == len(spec.shape) and all(
        want in (-1, got) for got, want in zip(shape, spec.shape, strict=True)
    )
    if not fits:
        raise _invalid(field, f"must be {list(spec.shape)}, found {_brief(shape)}")
    if any(n < 1 for n in shape):
        raise _invalid(field, f"dimensions are at least 1, found {_brief(shape)}")
    if shape and spec.shape[0] == -1 and shape[0] > BATCH_LIMIT:
        raise _invalid(field, f"at most {BATCH_LIMIT} rows, found {shape[0]}")
    total = 1
    for n in shape:
        total *= n
    if total > ELEMENT_LIMIT:
        raise _invalid(field, f"at most {ELEMENT_LIMIT} elements, found {total}")
    return tuple(shape)


def _data(field: str, data: Any, datatype: str, shape: tuple[int, ...]) -> Array:
    if not isinstance(data, list):
        raise _invalid(field, "must be a list")
    try:
        raw = np.asarray(data)
    except ValueError as fault:
        raise _invalid(field, "nested lists must have equal lengths") from fault
    if raw.shape not in (shape, (int(np.prod(shape)),)):
        raise _invalid(
            field, f"must hold {int(np.prod(shape))} values, flat or nested, found {raw.size}"
        )
    target = np.dtype(DTYPES[datatype])
    if target.kind in "iu" and raw.dtype.kind == "f":
        raw = _whole(data, raw)
    _check_kind(field, raw, datatype)
    if target.kind in "iu":
        low, high = np.iinfo(target).min, np.iinfo(target).max
        if int(raw.min()) < low or int(raw.max()) > high:
            raise _invalid(field, f"{datatype} is in {low}..{high}")
    with np.errstate(over="ignore"):
        array = raw.astype(target).reshape(shape)
    if target.kind == "f" and not np.isfinite(array).all():
        raise _invalid(field, f"a value does not fit {datatype}")
    return array


def _whole(data: list[Any], raw: Array) -> Array:
    """Small and very large whole numbers together: numpy would make them inexact floats."""
    exact = np.asarray(data, dtype=object)
    if not all(type(value) is int and 0 <= value < 2**64 for value in exact.flat):
        return raw
    return exact.astype(np.uint64)


def _check_kind(field: str, raw: Array, datatype: str) -> None:
    """Only numbers of the right kind: no strings, no null, no 0.5 as an integer."""
    allowed = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}[np.dtype(DTYPES[datatype]).kind]
    if raw.dtype.kind not in allowed:
        raise _invalid(field, f"holds something that is not {datatype}")


def _items(inputs: Mapping[str, Array], specs: Sequence[TensorSpec]) -> int:
    """How many items a request holds: the open first dimension, the same in all inputs."""
    open_specs = [spec for spec in specs if spec.shape and spec.shape[0] == -1]
    counts = {inputs[spec.name].shape[0] for spec in open_specs}
    if len(counts) > 1:
        raise _invalid("inputs", f"all need the same number of rows, found {sorted(counts)}")
    return int(counts.pop()) if counts else 1


def _wanted(outputs: Any, specs: Sequence[TensorSpec]) -> tuple[str, ...]:
    if outputs is None or outputs == []:
        return tuple(spec.name for spec in specs)
    if not isinstance(outputs, list):
        raise _invalid("outputs", "must be a list")
    names = {spec.name for spec in specs}
    for index, output in enumerate(outputs):
        name = output.get("name") if isinstance(output, dict) else None
        if not isinstance(name, str) or name not in names:
            where = f"outputs[{index}].name"
            raise _invalid(where, f"must be one of {_names(specs)}, found {_brief(name)}")
    return tuple(dict.fromkeys(output["name"] for output in outputs))


def _ordered(version: ModelVersion, request: InferRequest) -> list[TensorSpec]:
    by_name = {spec.name: spec for spec in version.signature.outputs}
    return [by_name[name] for name in request.wanted]


def _output(spec: TensorSpec, value: Array) -> dict[str, Any]:
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise ValueError(f"the model's output {spec.name} holds NaN or infinity")
    flat = np.ascontiguousarray(value).ravel()
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(value.shape), "data": flat}


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _names(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(spec.name for spec in specs)


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _invalid(where: str, what: str) -> InvalidInput:
    fault = Fault(where, what)
    return InvalidInput(str(fault), (fault,))
