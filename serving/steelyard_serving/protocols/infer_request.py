"""Reading an inference request of the Open Inference Protocol: a document, and raw tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from steelyard.domain.model_version import Signature, TensorSpec
from steelyard_serving.protocols.faults import brief, invalid, unreadable
from steelyard_serving.protocols.long_numbers import document_of
from steelyard_serving.protocols.protocol import InferRequest
from steelyard_serving.protocols.raw_tensors import from_raw, raw_shape
from steelyard_serving.protocols.tensors import Array, array_of, checked_shape, names, row_count

NOT_OFFERED = (
    "sequence_id", "sequence_start", "sequence_end", "classification", "shared_memory_region",
)  # fmt: skip
"""Parameters that change what an answer means; whoever asks must not believe they were heeded."""
_NONE: Mapping[str, Any] = {}


def parse(body: bytes, signature: Signature, json_length: str | None = None) -> InferRequest:
    """Read a document, with raw tensors behind its first ``json_length`` bytes, if that is given.

    Raises:
        InvalidInput: the body is no JSON, a field is missing or malformed, or a tensor does not
            fit the signature. The message names the first such field.
    """
    head, tail = (body, None) if json_length is None else _split(body, json_length)
    document = _document(head)
    request_id = document.get("id")
    if request_id is not None and not (isinstance(request_id, str) and len(request_id) <= 256):
        raise invalid("id", "must be a string of at most 256 characters")
    parameters = _parameters("parameters", document)
    inputs = _inputs(document.get("inputs"), signature.inputs, tail)
    if tail is not None and tail.left:
        raise invalid("body", f"has {tail.left} bytes more than the inputs' binary_data_size say")
    wanted, binary = _wanted(
        document.get("outputs"),
        signature.outputs,
        _flag("parameters.binary_data_output", parameters.get("binary_data_output", False)),
    )
    items = row_count(inputs, signature.inputs)
    timeout_us = _timeout(parameters.get("timeout"))
    return InferRequest(inputs, items, wanted, binary, request_id, timeout_us)


def parse_raw(body: bytes, signature: Signature) -> InferRequest:
    """Read a body that is the only input itself; a BYTES one without its length.

    Whoever sends bytes gets bytes: all outputs, raw.

    Raises:
        InvalidInput: the version has several inputs, or the bytes do not fit the only one.
    """
    if len(signature.inputs) != 1:
        raise invalid("body", f"raw bytes are one input, this takes {names(signature.inputs)}")
    (spec,) = signature.inputs
    shape = checked_shape("body", raw_shape(spec, len(body)), spec)
    data = len(body).to_bytes(4, "little") + body if spec.datatype == "BYTES" else body
    inputs = {spec.name: from_raw("body", memoryview(data), spec.datatype, shape)}
    wanted = tuple(one.name for one in signature.outputs)
    items = row_count(inputs, signature.inputs)
    return InferRequest(inputs, items, wanted, frozenset(wanted))


@dataclass(slots=True)
class _Tail:
    """The bytes behind the document, taken from the front."""

    data: memoryview
    taken: int = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.taken

    def take(self, field: str, size: Any) -> memoryview:
        if type(size) is not int or size < 0:
            raise invalid(field, f"must be a number of bytes, found {brief(size)}")
        if size > self.left:
            raise invalid(field, f"is {size}, and {self.left} bytes are left of the body")
        self.taken += size
        return self.data[self.taken - size : self.taken]


def _split(body: bytes, json_length: str) -> tuple[memoryview, _Tail]:
    # The longest number that may be right is short; int() of a long one takes its time.
    if not json_length.isascii() or not json_length.isdigit() or len(json_length) > 12:
        raise unreadable("Inference-Header-Content-Length", "must be a whole number")
    length, view = int(json_length), memoryview(body)
    if length > len(body):
        raise unreadable(
            "Inference-Header-Content-Length", f"is {length}, the body has {len(body)} bytes"
        )
    return view[:length], _Tail(view[length:])


def _document(body: bytes | memoryview) -> dict[str, Any]:
    try:
        document = document_of(body)
    except orjson.JSONDecodeError as error:
        raise unreadable("body", f"is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise unreadable("body", "must be an object")
    return document


def _parameters(field: str, holder: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a request or a tensor; none is as good as empty."""
    if "parameters" not in holder:
        return _NONE
    parameters: Any = holder["parameters"]
    if not isinstance(parameters, dict):
        raise invalid(field, "must be an object")
    for name in NOT_OFFERED:
        if name in parameters:
            raise invalid(f"{field}.{name}", "is not offered")
    return parameters


def _flag(field: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise invalid(field, f"must be true or false, found {brief(value)}")
    return value


def _timeout(value: Any) -> int | None:
    if value is None or (type(value) is int and 0 <= value < 2**53):
        return value
    raise invalid("parameters.timeout", f"must be whole microseconds, found {brief(value)}")


def _inputs(given: Any, specs: Sequence[TensorSpec], tail: _Tail | None) -> dict[str, Array]:
    if not isinstance(given, list) or not given:
        raise invalid("inputs", "must be a list of tensors")
    by_name = {spec.name: spec for spec in specs}
    arrays: dict[str, Array] = {}
    for index, tensor in enumerate(given):
        where = f"inputs[{index}]"
        if not isinstance(tensor, dict):
            raise invalid(where, "must be an object")
        name = tensor.get("name")
        if not isinstance(name, str) or name not in by_name:
            raise invalid(f"{where}.name", f"must be one of {names(specs)}, found {brief(name)}")
        if name in arrays:
            raise invalid(f"{where}.name", f"{name} is given twice")
        arrays[name] = _tensor(where, tensor, by_name[name], tail)
    missing = [spec.name for spec in specs if spec.name not in arrays]
    if missing:
        raise invalid("inputs", f"{', '.join(missing)} is missing")
    return arrays


def _tensor(where: str, tensor: dict[str, Any], spec: TensorSpec, tail: _Tail | None) -> Array:
    datatype = tensor.get("datatype")
    if datatype != spec.datatype:
        raise invalid(f"{where}.datatype", f"must be {spec.datatype}, found {brief(datatype)}")
    shape = checked_shape(f"{where}.shape", tensor.get("shape"), spec)
    parameters = _parameters(f"{where}.parameters", tensor)
    if "binary_data_size" not in parameters:
        if "data" not in tensor:
            raise invalid(f"{where}.data", "is missing")
        return array_of(f"{where}.data", tensor["data"], spec.datatype, shape)
    field = f"{where}.parameters.binary_data_size"
    if "data" in tensor:
        raise invalid(field, "and data exclude each other")
    if tail is None:
        raise invalid(field, "needs the header Inference-Header-Content-Length")
    data = tail.take(field, parameters["binary_data_size"])
    return from_raw(where, data, spec.datatype, shape)


def _wanted(
    outputs: Any, specs: Sequence[TensorSpec], binary: bool
) -> tuple[tuple[str, ...], frozenset[str]]:
    """The outputs to return, all unless some are named, and those of them as raw bytes."""
    if outputs is None or outputs == []:
        every = tuple(spec.name for spec in specs)
        return every, frozenset(every if binary else ())
    if not isinstance(outputs, list):
        raise invalid("outputs", "must be a list")
    known = {spec.name for spec in specs}
    found: dict[str, bool] = {}
    for index, output in enumerate(outputs):
        where = f"outputs[{index}]"
        name = output.get("name") if isinstance(output, dict) else None
        if not isinstance(name, str) or name not in known:
            raise invalid(f"{where}.name", f"must be one of {names(specs)}, found {brief(name)}")
        parameters = _parameters(f"{where}.parameters", output)
        flag = _flag(f"{where}.parameters.binary_data", parameters.get("binary_data", binary))
        found.setdefault(name, flag)
    return tuple(found), frozenset(name for name, raw in found.items() if raw)
