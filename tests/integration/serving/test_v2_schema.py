"""The server and a replica behind it, asked what their OpenAPI document allows, and forbids.

``SCHEMA_EXAMPLES=2000`` asks each call so often; without it there are few, for every change.
"""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import given
from schemathesis import GenerationMode
from schemathesis.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.schema_cases import allowed_and_forbidden, examples

from .conftest import MODEL, Place

pytestmark = pytest.mark.integration
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "protocols.openapi.json"
DOCUMENT: dict[str, Any] = json.loads(PAGE.read_text(encoding="utf-8"))
CALLS = [
    (path, method)
    for path, item in DOCUMENT["paths"].items()
    for method in ("get", "post")
    if method in item
]
WIDE = examples(15)
FORM = [status_code_conformance, content_type_conformance, response_headers_conformance,
        response_schema_conformance, allow_header_conformance]  # fmt: skip
FAILED = (500, 502)
"""What no request may lead to. 501, 503 and 504 are answers, and stand in the document."""
OTHERWISE = {"/v2/models/stats": 501, "/v2/logging": 501}
"""What is never 200, because it is not offered."""


def narrowed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the words of the model that is served: its name, its tensors."""
    made = copy.deepcopy(document)
    parameters, schemas = made["components"]["parameters"], made["components"]["schemas"]
    parameters["model"]["schema"] = {"const": MODEL}
    parameters["version"]["schema"] = {"enum": [1, 2]}
    parameters["unit"]["schema"]["pattern"] = "^[a-z0-9]+$"
    row = {"type": "array", "items": {"type": "number", "minimum": -1e6, "maximum": 1e6},
           "minItems": 4, "maxItems": 4}  # fmt: skip
    some = {"type": "array", "minItems": 1, "maxItems": 1}
    tensor = {"name": {"const": "x"}, "datatype": {"const": "FP32"}, "shape": {"const": [1, 4]},
              "data": {"anyOf": [row, {**some, "items": row}]}}  # fmt: skip
    output = {"type": "object", "properties": {"name": {"const": "y"}}, "required": ["name"]}
    schemas["InferRequest"]["properties"] |= {
        "inputs": {**some, "items": _closed(tensor)}, "outputs": {**some, "items": output},
    }  # fmt: skip
    schemas["ScoringRequest"] = _closed({"inputs": _closed({"x": {**some, "items": row}})})
    for path, method in CALLS:
        body = made["paths"][path][method].get("requestBody", {"content": {}})["content"]
        for other in set(body) - {"application/json"}:
            del body[other]
        told = made["paths"][path][method].get("parameters", [])
        told[:] = [one for one in told if not one["$ref"].endswith("/jsonLength")]
    return made


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties),
            "additionalProperties": False}  # fmt: skip


SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OF_MODEL = schemathesis.openapi.from_dict(narrowed(DOCUMENT))


def ask(place: Place, case: Any) -> int:
    """The status of an answer that has the form which the document says."""
    answer = case.call(base_url=f"http://{place.address}")
    assert answer.status_code not in FAILED, answer.text
    case.validate_response(answer, checks=FORM)
    status: int = answer.status_code
    return status


@pytest.mark.parametrize(("path", "method"), CALLS, ids=str)
def test_whatever_is_asked_is_answered_as_the_document_says(
    place: Place, path: str, method: str
) -> None:
    """What it allows and what it forbids: status, headers, media type, body; nothing fails."""

    @WIDE
    @given(case=allowed_and_forbidden(SCHEMA[path][method]))
    def each(case: Any) -> None:
        ask(place, case)

    each()


@pytest.mark.parametrize(("path", "method"), CALLS, ids=str)
def test_what_the_document_allows_of_this_model_is_answered(
    place: Place, path: str, method: str
) -> None:
    """Every request that fits the model gets its answer, not a refusal."""

    @WIDE
    @given(case=OF_MODEL[path][method].as_strategy(generation_mode=GenerationMode.POSITIVE))
    def each(case: Any) -> None:
        assert ask(place, case) == OTHERWISE.get(path, 200)

    each()
