"""MLflow's scoring protocol: ``/invocations``, as ``mlflow models serve`` answers it.

A version in the registry is an MLflow model with named tensors, so the predictions are an object
of its outputs by name, and the answer is byte by byte what MLflow would say.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from steelyard.domain.errors import SteelyardError
from steelyard.domain.model_version import ModelVersion, Signature, TensorSpec
from steelyard_serving.protocols.faults import (
    TooLarge,
    UnknownMediaType,
    Unreadable,
    brief,
    invalid,
    unreadable,
)
from steelyard_serving.protocols.protocol import Headers, InferRequest, Written
from steelyard_serving.protocols.tables import (
    Table,
    from_csv,
    from_parquet,
    from_records,
    from_split,
    tensors_of,
)
from steelyard_serving.protocols.tensors import Array, array_of, checked_shape, row_count

CSV, JSON, PARQUET = "text/csv", "application/json", "application/vnd.apache.parquet"
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")


def read(body: bytes, headers: Headers, signature: Signature) -> InferRequest:
    """Read a request in any of the three media types.

    Raises:
        UnknownMediaType: it is in another one, or not in UTF-8.
        InvalidInput: it is malformed, or does not fit the signature.
    """
    inputs = _READERS[_media_type(headers.get("content-type"))](body, signature)
    wanted = tuple(spec.name for spec in signature.outputs)
    return InferRequest(inputs, row_count(inputs, signature.inputs), wanted)


def write(
    version: ModelVersion,
    request: InferRequest,
    outputs: Mapping[str, Array],
    prediction_id: str,
) -> Written:
    """The answer; version and prediction are in its headers alone.

    Raises:
        ValueError: an output holds NaN or infinity.
    """
    predictions = {name: outputs[name].tolist() for name in request.wanted}
    # MLflow's own encoder: floats are doubles, and separators have spaces.
    text = json.dumps({"predictions": predictions}, allow_nan=False)
    return Written(text.encode(), {"content-type": JSON})


def refuse(status: int, fault: SteelyardError) -> Written:
    """The body of an answer that is no success: MLflow's code and message, never a trace."""
    if isinstance(fault, UnknownMediaType):
        return Written(fault.message.encode(), {"content-type": "text/plain; charset=utf-8"})
    if status >= 500:
        code = "INTERNAL_ERROR"
    elif isinstance(fault, Unreadable | TooLarge):
        code = "BAD_REQUEST"
    else:
        code = "INVALID_PARAMETER_VALUE"
    answer = orjson.dumps({"error_code": code, "message": fault.message})
    return Written(answer, {"content-type": JSON})


def _media_type(header: str | None) -> str:
    """One of the three, without its parameters."""
    media_type, *parameters = (part.strip() for part in (header or "").split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() != "charset":
            raise UnknownMediaType(f"Unrecognized content type parameters: {name.strip()[:60]}.")
        if value.strip().strip('"').lower() != "utf-8":
            raise UnknownMediaType("The scoring server only supports UTF-8")
    if media_type.lower() not in _READERS:
        raise UnknownMediaType(
            "This predictor only supports the following content types: "
            f"Types: {list(_READERS)}. Got {brief(header)}."
        )
    return media_type.lower()


def _from_json(body: bytes, signature: Signature) -> dict[str, Array]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise unreadable("body", f"is not JSON: {error}") from error
    given = [form for form in FORMS if isinstance(document, dict) and form in document]
    if len(given) != 1:
        raise unreadable("body", f"must be an object with exactly one of {', '.join(FORMS)}")
    if document.get("params"):
        raise invalid("params", "no served model takes any")
    (form,) = given
    if form == "dataframe_split":
        return tensors_of(from_split(form, document[form]), signature)
    if form == "dataframe_records":
        return tensors_of(from_records(form, document[form]), signature)
    values = document[form]
    if form == "instances" and isinstance(values, list) and values and type(values[0]) is dict:
        values = {name: list(cells) for name, cells in from_records(form, values).columns.items()}
    return _named(form, values, signature)


def _named(form: str, values: Any, signature: Signature) -> dict[str, Array]:
    """Tensors by the inputs' names; a list is the only input."""
    specs = signature.inputs
    if isinstance(values, list) and len(specs) == 1:
        return {specs[0].name: _nested(form, values, specs[0])}
    if not isinstance(values, dict):
        raise invalid(form, f"must be an object of {', '.join(spec.name for spec in specs)}")
    missing = [spec.name for spec in specs if spec.name not in values]
    if missing:
        raise invalid(form, f"{', '.join(missing)} is missing")
    return {spec.name: _nested(f"{form}.{spec.name}", values[spec.name], spec) for spec in specs}


def _nested(field: str, values: Any, spec: TensorSpec) -> Array:
    """A tensor whose shape is how its lists are nested."""
    shape: list[int] = []
    level = values
    while isinstance(level, list) and len(shape) <= len(spec.shape):
        shape.append(len(level))
        level = level[0] if level else None
    return array_of(field, values, spec.datatype, checked_shape(field, shape, spec))


def _from_table(reader: Callable[[bytes], Table]) -> Callable[[bytes, Signature], dict[str, Array]]:
    return lambda body, signature: tensors_of(reader(body), signature)


_READERS: Mapping[str, Callable[[bytes, Signature], dict[str, Array]]] = {
    CSV: _from_table(from_csv),
    JSON: _from_json,
    PARQUET: _from_table(from_parquet),
}
