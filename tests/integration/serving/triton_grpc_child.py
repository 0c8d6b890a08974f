"""Triton's own gRPC client, in a process of its own: its messages and ours have the same names.

Reads a JSON object a line, asks, and writes what came back as a line.
"""

import base64
import json
import sys
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import (  # type: ignore[import-untyped]
    InferenceServerClient,
    InferInput,
    InferRequestedOutput,
    service_pb2,
    service_pb2_grpc,
)
from tritonclient.utils import InferenceServerException  # type: ignore[import-untyped]

ADDRESS = sys.argv[1]
CLIENT = InferenceServerClient(ADDRESS)
CHANNEL = grpc.insecure_channel(ADDRESS)
STUB = service_pb2_grpc.GRPCInferenceServiceStub(CHANNEL)


def _rows(data: str) -> Any:
    return np.frombuffer(base64.b64decode(data), np.float32).reshape(-1, 4)


def infer(data: str, model: str, named: bool = True, **options: Any) -> dict[str, Any]:
    """Raw contents, as Triton's client sends them, with its own options."""
    rows = _rows(data)
    tensor = InferInput("x", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows)
    outputs = [InferRequestedOutput("y")] if named else None
    result = CLIENT.infer(model, [tensor], outputs=outputs, **options)
    return _told(result.get_response(), result.as_numpy("y"))


def message(
    inputs: list[dict[str, Any]], raw: list[str] | None = None,
    metadata: dict[str, str] | None = None, timeout: float | None = None, **fields: Any,
) -> dict[str, Any]:  # fmt: skip
    """A message written by hand, in Triton's classes; also what comes behind the answer."""
    request = service_pb2.ModelInferRequest(**fields)
    for one in inputs:
        contents = one.pop("contents", None)
        tensor = request.inputs.add(**one)
        for field, values in (contents or {}).items():
            getattr(tensor.contents, field).extend(values)
    request.raw_input_contents.extend(base64.b64decode(one) for one in raw or [])
    response, call = STUB.ModelInfer.with_call(
        request, metadata=list((metadata or {}).items()), timeout=timeout
    )
    values = list(response.outputs[0].contents.fp32_contents)
    rows = np.array(values, np.float32).reshape(-1, 4) if values else None
    return {**_told(response, rows), "trailing": dict(call.trailing_metadata())}


def garbage(method: str, data: str) -> dict[str, Any]:
    """Bytes that are no message."""
    act = CHANNEL.unary_unary(f"/inference.GRPCInferenceService/{method}")
    return {"bytes": len(act(base64.b64decode(data), timeout=20))}


def about(model: str) -> dict[str, Any]:
    """Everything that is asked without inferring."""
    server, told = CLIENT.get_server_metadata(), CLIENT.get_model_metadata(model)
    return {
        "live": CLIENT.is_server_live(), "ready": CLIENT.is_server_ready(),
        "model": CLIENT.is_model_ready(model), "version": CLIENT.is_model_ready(model, "2"),
        "none": CLIENT.is_model_ready("none"), "ninth": CLIENT.is_model_ready(model, "9"),
        "server": [server.name, list(server.extensions)],
        "metadata": [told.name, list(told.versions), told.platform],
        "tensors": [[one.name, one.datatype, list(one.shape)]
                    for one in (*told.inputs, *told.outputs)],
    }  # fmt: skip


def metadata(model: str, version: str = "") -> dict[str, Any]:
    """A model's metadata by name and version."""
    return {"name": CLIENT.get_model_metadata(model, version).name}


def fields() -> dict[str, Any]:
    """Name, number, type and whether repeated, of the fields of all messages."""
    return _fields(service_pb2.DESCRIPTOR.message_types_by_name)


def _fields(messages: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in messages.values():
        found[one.full_name] = [[f.name, f.number, f.type, f.is_repeated] for f in one.fields]
        found |= _fields(one.nested_types_by_name)
    return found


def _told(response: Any, rows: Any) -> dict[str, Any]:
    return {
        "rows": None if rows is None else base64.b64encode(rows.tobytes()).decode(),
        "model": response.model_name, "version": response.model_version, "id": response.id,
        "prediction_id": response.parameters["prediction_id"].string_param,
        "raw": len(response.raw_output_contents),
    }  # fmt: skip


CALLS: dict[str, Callable[..., dict[str, Any]]] = {
    "infer": infer, "message": message, "garbage": garbage, "about": about, "metadata": metadata,
    "fields": fields,
}  # fmt: skip


def main() -> None:
    """Answer until nobody asks any more."""
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            told = CALLS[asked.pop("call")](**asked)
        except InferenceServerException as error:
            told = {"code": error.status().removeprefix("StatusCode."), "words": error.message()}
        except grpc.RpcError as error:
            trailing = dict(error.trailing_metadata() or ())
            told = {"code": error.code().name, "words": error.details(),
                    "trailing": trailing}  # fmt: skip
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
