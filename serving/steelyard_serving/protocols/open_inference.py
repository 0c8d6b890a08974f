"""The Open Inference Protocol, version 2, over REST: JSON, with tensors in it or raw behind it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from steelyard.domain.envelope import envelope_digest
from steelyard.domain.errors import SteelyardError
from steelyard.domain.model_version import (
    ONNXRUNTIME,
    OPENVINO,
    TORCH,
    ModelVersion,
    Signature,
    TensorSpec,
)
from steelyard_serving.protocols.infer_request import parse, parse_raw
from steelyard_serving.protocols.protocol import Headers, InferRequest, Written
from steelyard_serving.protocols.raw_tensors import to_raw
from steelyard_serving.protocols.tensors import Array, are_finite, zeros

JSON_LENGTH = "inference-header-content-length"
PLATFORMS = {
    ONNXRUNTIME: "onnx_onnxv1", OPENVINO: "onnx_onnxv1", TORCH: "pytorch_safetensors",
}  # fmt: skip
"""What a client is told of a version's form, by what runs it."""
_JSON = {"content-type": "application/json"}


def read(body: bytes, headers: Headers, signature: Signature) -> InferRequest:
    """Read an inference request.

    Raises:
        InvalidInput: it is malformed, or a tensor does not fit the signature. The message names
            the first such field.
    """
    length = headers.get(JSON_LENGTH)
    if length is None:
        return parse(body, signature)
    if length == "0":
        return parse_raw(body, signature)
    return parse(body, signature, length)


def write(
    version: ModelVersion,
    request: InferRequest,
    outputs: Mapping[str, Array],
    prediction_id: str,
) -> Written:
    """The answer; ``data`` is flat and row-major, raw tensors stand behind the JSON.

    Raises:
        ValueError: an output holds NaN or infinity.
    """
    tails: list[bytes] = []
    answer: dict[str, Any] = {
        "model_name": version.model,
        "model_version": str(version.version),
        "parameters": {"prediction_id": prediction_id},
        "outputs": [
            _output(spec, outputs[spec.name], spec.name in request.binary, tails)
            for spec in _ordered(version, request)
        ],
    }
    if request.request_id is not None:
        answer["id"] = request.request_id
    head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    if not request.binary:
        return Written(head, _JSON)
    headers = {"content-type": "application/octet-stream", JSON_LENGTH: str(len(head))}
    return Written(b"".join((head, *tails)), headers)


def refuse(status: int, fault: SteelyardError) -> Written:
    """The body of every answer that is not a success; all that a status says is in it."""
    return document({"error": fault.message})


def metadata(version: ModelVersion) -> Written:
    """What the model is: names, types and shapes, −1 for an open dimension.

    ``training_envelope`` is the digest of what its rows are checked against, null for nothing.
    """
    envelope = version.envelope
    return document({
        "name": version.model,
        "versions": [str(version.version)],
        "platform": PLATFORMS[version.runtime],
        "inputs": [_described(spec) for spec in version.signature.inputs],
        "outputs": [_described(spec) for spec in version.signature.outputs],
        "parameters": {"training_envelope": envelope and envelope_digest(envelope)},
    })  # fmt: skip


def ready(version: ModelVersion) -> Written:
    """That a loaded version is ready."""
    return document({"name": version.model, "ready": True})


def document(answer: Mapping[str, Any]) -> Written:
    """An answer that is JSON alone."""
    return Written(orjson.dumps(answer), _JSON)


def zero_request(signature: Signature) -> bytes:
    """An inference request of one item of zeros."""
    tensors = [
        {"name": spec.name, "datatype": spec.datatype, "shape": list(value.shape),
         "data": value.ravel().tolist()}
        for spec, value in zip(signature.inputs, zeros(signature).values(), strict=True)
    ]  # fmt: skip
    return orjson.dumps({"inputs": tensors})


def _ordered(version: ModelVersion, request: InferRequest) -> Sequence[TensorSpec]:
    by_name = {spec.name: spec for spec in version.signature.outputs}
    return [by_name[name] for name in request.wanted]


def _output(spec: TensorSpec, value: Array, binary: bool, tails: list[bytes]) -> dict[str, Any]:
    """What the JSON says of an output; a raw one is added to the tails."""
    if value.dtype.kind == "f" and not are_finite(value):
        raise ValueError(f"the model's output {spec.name} holds NaN or infinity")
    told: dict[str, Any] = {
        "name": spec.name, "datatype": spec.datatype, "shape": list(value.shape),
    }  # fmt: skip
    if binary:
        tails.append(to_raw(value))
        told["parameters"] = {"binary_data_size": len(tails[-1])}
    elif value.dtype.kind == "O":
        told["data"] = value.ravel().tolist()
    else:
        told["data"] = np.ascontiguousarray(value).ravel()
    return told


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
