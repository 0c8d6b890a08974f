"""gRPC's inference messages, to the REST protocol's documents with raw tensors and back. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from steelyard_serving.open_inference_grpc import open_inference_pb2 as pb
from steelyard_serving.open_inference_grpc.contents import FIELDS, fill, raw_of
from steelyard_serving.protocols.faults import invalid

FORM = frozenset({"binary_data", "binary_data_output", "binary_data_size"})
"""Parameters that say where REST has its tensors; a message says it by its own fields."""


class Document(NamedTuple):
    """A REST body: JSON of so many bytes, raw tensors behind it."""

    json_length: int
    body: bytes


def asked(message: pb.ModelInferRequest) -> Document:
    """An inference request as the edge takes it: tensors raw, and asked for raw.

    Shapes and raw tensors are looked at by the replica, which knows the signature.

    Raises:
        InvalidInput: raw and typed contents are mixed, or typed ones do not fit their datatype.
    """
    raw = _raw(message)
    document: dict[str, Any] = {
        **({"id": message.id} if message.id else {}),
        "parameters": {**_told(message.parameters), "binary_data_output": True},
        "inputs": [
            {
                "name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape),
                "parameters": {**_told(tensor.parameters), "binary_data_size": len(data)},
            }
            for tensor, data in zip(message.inputs, raw, strict=True)
        ],
        "outputs": [
            {"name": one.name, "parameters": _told(one.parameters)} for one in message.outputs
        ],
    }  # fmt: skip
    head = orjson.dumps(document)
    return Document(len(head), b"".join((head, *raw)))


def answered(document: Document, typed: bool) -> pb.ModelInferResponse:
    """The answer as a message, its tensors typed or raw; FP16 has no type here, so it is raw.

    Raises:
        ValueError: it is no answer with raw tensors.
    """
    told = orjson.loads(document.body[: document.json_length])
    left = memoryview(document.body)[document.json_length :]
    message = pb.ModelInferResponse(
        model_name=told["model_name"], model_version=told["model_version"], id=told.get("id", "")
    )
    _tell(message.parameters, told.get("parameters", {}))
    typed = typed and all(one["datatype"] in FIELDS for one in told["outputs"])
    for one in told["outputs"]:
        parameters = one["parameters"]
        size = parameters.pop("binary_data_size")
        data, left = left[:size], left[size:]
        tensor = message.outputs.add(name=one["name"], datatype=one["datatype"], shape=one["shape"])
        _tell(tensor.parameters, parameters)
        if typed:
            fill(tensor.contents, one["datatype"], data)
        else:
            message.raw_output_contents.append(bytes(data))
    return message


def described(document: Mapping[str, Any]) -> pb.ModelMetadataResponse:
    """A model's metadata as a message."""
    return pb.ModelMetadataResponse(
        name=document["name"], versions=document["versions"], platform=document["platform"],
        inputs=_tensors(document["inputs"]), outputs=_tensors(document["outputs"]),
    )  # fmt: skip


def _tensors(
    specs: Sequence[Mapping[str, Any]],
) -> list[pb.ModelMetadataResponse.TensorMetadata]:
    return [pb.ModelMetadataResponse.TensorMetadata(**spec) for spec in specs]


def _raw(message: pb.ModelInferRequest) -> Sequence[bytes]:
    """The inputs' bytes in their order: all of them raw, or all of them typed."""
    if not message.raw_input_contents:
        return [raw_of(f"inputs[{n}]", tensor) for n, tensor in enumerate(message.inputs)]
    if any(tensor.HasField("contents") for tensor in message.inputs):
        raise invalid("raw_input_contents", "and contents exclude each other")
    found, wanted = len(message.raw_input_contents), len(message.inputs)
    if found != wanted:
        raise invalid("raw_input_contents", f"must be one an input, {wanted}, found {found}")
    return list(message.raw_input_contents)


def _told(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Any]:
    return {
        name: getattr(value, which)
        for name, value in parameters.items()
        if name not in FORM and (which := value.WhichOneof("parameter_choice"))
    }


def _tell(parameters: Any, told: Mapping[str, Any]) -> None:
    """Booleans, whole numbers, fractions and texts; there are no others."""
    for name, value in told.items():
        if isinstance(value, bool):
            parameters[name].bool_param = value
        elif isinstance(value, int):
            parameters[name].int64_param = value
        elif isinstance(value, float):
            parameters[name].double_param = value
        else:
            parameters[name].string_param = str(value)
