"""The six calls of the Open Inference Protocol over gRPC, answered by asking the edge."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import grpc
import orjson
from google.protobuf.message import DecodeError, Message

from steelyard.domain.errors import InvalidInput, Unavailable
from steelyard.domain.model_version import MODEL_NAME
from steelyard_serving.open_inference_grpc import open_inference_pb2 as pb
from steelyard_serving.open_inference_grpc.edge_client import LONGEST_S, EdgeAnswer, EdgeClient
from steelyard_serving.open_inference_grpc.messages import Document, answered, asked, described
from steelyard_serving.protocols.open_inference import JSON_LENGTH

NAME = "inference.GRPCInferenceService"
VERSION = re.compile("[0-9]{1,9}")
EXTENSIONS = ("parameters",)
"""What of Triton's extensions works over gRPC."""

TAKEN = frozenset({"x-unit-id", "authorization", "x-api-key", "traceparent", "tracestate"})
"""Metadata that goes to the edge as headers; the rest is the transport's or nobody's."""

GIVEN = frozenset({"x-prediction-id", "x-model-version", "x-variant", "retry-after"})
"""Headers of an answer that come back as trailing metadata."""

FULL = "x-overloaded"
"""The edge's header for a full queue; a version that is not there is a 503 as well."""

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT, 401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED, 404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED, 413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT, 429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED, 502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE, 504: grpc.StatusCode.DEADLINE_EXCEEDED,
}  # fmt: skip
"""gRPC's word for an HTTP status of the edge or a replica; any other is INTERNAL."""


class Outcome(NamedTuple):
    """A message, or why there is none; and the trailing metadata."""

    message: Message | None
    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    trailing: tuple[tuple[str, str], ...] = ()


class Call(NamedTuple):
    """What comes with a message: headers for the edge, and how long there is time, in seconds."""

    headers: tuple[tuple[str, str], ...]
    within_s: float


Act = Callable[[Any, Call], Awaitable[Outcome]]


class Service:
    """Translates; whatever is decided, limited, counted or recorded is so behind the edge."""

    def __init__(self, edge: EdgeClient) -> None:
        self._edge = edge

    def handler(self) -> grpc.GenericRpcHandler:
        """The service, to be added to a server."""
        acts: Mapping[str, tuple[type[Message], Act]] = {
            "ServerLive": (pb.ServerLiveRequest, self._live),
            "ServerReady": (pb.ServerReadyRequest, self._ready),
            "ServerMetadata": (pb.ServerMetadataRequest, self._server),
            "ModelReady": (pb.ModelReadyRequest, self._model_ready),
            "ModelMetadata": (pb.ModelMetadataRequest, self._model),
            "ModelInfer": (pb.ModelInferRequest, self._infer),
        }
        return grpc.method_handlers_generic_handler(
            NAME,
            {
                name: grpc.unary_unary_rpc_method_handler(_method(kind, act))
                for name, (kind, act) in acts.items()
            },
        )

    async def _live(self, _: pb.ServerLiveRequest, call: Call) -> Outcome:
        answer = await self._get("/v2/health/live", call)
        return Outcome(pb.ServerLiveResponse(live=answer.status == 200))

    async def _ready(self, _: pb.ServerReadyRequest, call: Call) -> Outcome:
        answer = await self._get("/v2/health/ready", call)
        return Outcome(pb.ServerReadyResponse(ready=answer.status == 200))

    async def _server(self, _: pb.ServerMetadataRequest, call: Call) -> Outcome:
        answer = await self._get("/v2", call)
        if answer.status != 200:
            return refused(answer)
        told = orjson.loads(answer.body)
        return Outcome(
            pb.ServerMetadataResponse(
                name=told["name"], version=told["version"], extensions=EXTENSIONS
            )
        )

    async def _model_ready(self, message: pb.ModelReadyRequest, call: Call) -> Outcome:
        """Not there, or not yet: that is an answer, as it is Triton's."""
        path = path_of(message.name, message.version)
        answer = None if path is None else await self._get(f"{path}/ready", call)
        if answer is not None and answer.status not in (200, 404, 503):
            return refused(answer)
        return Outcome(pb.ModelReadyResponse(ready=answer is not None and answer.status == 200))

    async def _model(self, message: pb.ModelMetadataRequest, call: Call) -> Outcome:
        path = path_of(message.name, message.version)
        if path is None:
            return _unknown(message.name, message.version)
        answer = await self._get(path, call)
        if answer.status != 200:
            return refused(answer)
        return Outcome(described(orjson.loads(answer.body)), trailing=_trailing(answer))

    async def _infer(self, message: pb.ModelInferRequest, call: Call) -> Outcome:
        path = path_of(message.model_name, message.model_version)
        if path is None:
            return _unknown(message.model_name, message.model_version)
        length, body = asked(message)
        headers = (*call.headers, (JSON_LENGTH, str(length)))
        answer = await self._edge.ask("POST", f"{path}/infer", headers, body, call.within_s)
        if answer.status != 200:
            return refused(answer)
        document = Document(int(answer.headers[JSON_LENGTH]), answer.body)
        typed = not message.raw_input_contents
        return Outcome(answered(document, typed), trailing=_trailing(answer))

    async def _get(self, path: str, call: Call) -> EdgeAnswer:
        return await self._edge.ask("GET", path, call.headers, within_s=call.within_s)


def path_of(model: str, version: str) -> str | None:
    """A model's path at the edge, or one version's; None when there can be none of such a name.

    >>> path_of("digits", ""), path_of("digits", "2"), path_of("../v2", "")
    ('/v2/models/digits', '/v2/models/digits/versions/2', None)
    """
    if not MODEL_NAME.fullmatch(model) or (version and not VERSION.fullmatch(version)):
        return None
    return f"/v2/models/{model}" + (f"/versions/{version}" if version else "")


def refused(answer: EdgeAnswer) -> Outcome:
    """Why there is no message, in the words of the edge or the replica."""
    code = CODES.get(answer.status, grpc.StatusCode.INTERNAL)
    if answer.status == 503 and FULL in answer.headers:
        code = grpc.StatusCode.RESOURCE_EXHAUSTED
    return Outcome(None, code, _error(answer), _trailing(answer))


def _error(answer: EdgeAnswer) -> str:
    try:
        return str(orjson.loads(answer.body)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"the edge answered {answer.status}"


def _unknown(model: str, version: str) -> Outcome:
    """As the edge says it; such names never come so far."""
    shown = f"{model}/{version}" if version else model
    return Outcome(None, grpc.StatusCode.NOT_FOUND, f"unknown model {shown[:100]}")


def _trailing(answer: EdgeAnswer) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in answer.headers.items() if name in GIVEN)


def _method(kind: type[Message], act: Act) -> Callable[..., Awaitable[Any]]:
    """A gRPC method: read the message, act, and answer or say why not.

    The bytes are read here and not by gRPC, which would log each malformed message with a trace
    and call it our failure.
    """

    async def method(data: bytes, context: Any) -> Any:
        outcome = await _outcome(kind, act, data, context)
        if outcome.message is None:
            return await context.abort(outcome.code, outcome.details, outcome.trailing)
        context.set_trailing_metadata(outcome.trailing)
        return outcome.message.SerializeToString()

    return method


async def _outcome(kind: type[Message], act: Act, data: bytes, context: Any) -> Outcome:
    try:
        return await act(kind.FromString(data), _call(context))
    except DecodeError:
        what = f"the message is no {kind.DESCRIPTOR.name}"
        return Outcome(None, grpc.StatusCode.INVALID_ARGUMENT, what)
    except InvalidInput as fault:
        return Outcome(None, grpc.StatusCode.INVALID_ARGUMENT, fault.message)
    except Unavailable as error:
        return Outcome(None, grpc.StatusCode.UNAVAILABLE, error.message)
    except TimeoutError:
        return Outcome(None, grpc.StatusCode.DEADLINE_EXCEEDED, "the model server took too long")


def _call(context: Any) -> Call:
    """The deadline goes on as a header, so that nobody infers what nobody waits for."""
    headers = [(key, value) for key, value in context.invocation_metadata() or () if key in TAKEN]
    left_s = context.time_remaining()
    if left_s is None or left_s > LONGEST_S:
        return Call(tuple(headers), LONGEST_S)
    headers.append(("x-request-timeout-ms", str(max(0, int(left_s * 1000)))))
    return Call(tuple(headers), max(0.0, left_s))
