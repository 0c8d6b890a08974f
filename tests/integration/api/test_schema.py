"""Every call of the platform's own API, asked what its schema allows, and forbids.

``SCHEMA_EXAMPLES=2000`` asks each so often; without it there are few, for every change.
"""

from typing import Any

import pytest
import schemathesis
from hypothesis import given
from schemathesis.checks import not_a_server_error
from tests.schema_cases import allowed_and_forbidden, examples

from steelyard.api.app import create_app
from steelyard.api.credentials import api_token
from steelyard.bootstrap import Platform

pytestmark = pytest.mark.integration
WIDE = examples(25)


def test_nothing_that_is_asked_makes_the_platform_fail(seeded: Platform) -> None:
    """With the token, so that bodies are read: an answer or a refusal, never an error of ours."""
    schema = schemathesis.openapi.from_asgi(
        "/api/v1/openapi.json", create_app(seeded), headers={"host": "localhost"}
    )
    told = {"authorization": f"Bearer {api_token(seeded.settings)}", "host": "localhost"}
    asked: set[str] = set()
    for found in schema.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]  # an error of the schema fails here

        @WIDE
        @given(case=allowed_and_forbidden(operation))
        def each(case: Any) -> None:
            answer = case.call(headers=told)
            assert answer.status_code != 400 or "Host" not in answer.text
            case.validate_response(answer, checks=[not_a_server_error])

        each()
        asked.add(operation.label)
    assert asked >= {
        "POST /api/v1/labels",
        "GET /api/v1/predictions/{prediction_id}",
        "GET /health",
    }
