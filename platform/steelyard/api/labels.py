"""True answers that come later: ``POST /api/v1/labels``, by whoever has the token."""

import json
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.exceptions import HTTPException

from steelyard.api.credentials import api_token, standing
from steelyard.bootstrap import Platform
from steelyard.domain import labels as domain
from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.model_version import MODEL_NAME

BODY_LIMIT = 4 * 2**20
Class = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Label(BaseModel):
    """The true class of each row of one prediction, or of every prediction of a unit."""

    model_config = ConfigDict(extra="forbid", strict=True)
    prediction_id: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    unit: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    classes: Annotated[list[Class], Field(min_length=1, max_length=100_000)]


class Labels(BaseModel):
    """At most 10,000 labels, and who says so; ``model`` is whose, where they name units."""

    model_config = ConfigDict(extra="forbid", strict=True)
    labels: Annotated[list[Label], Field(min_length=1, max_length=domain.MOST_LABELS)]
    source: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    model: Annotated[str, StringConstraints(pattern=f"^{MODEL_NAME.pattern}$")] | None = None

    @property
    def found(self) -> list[domain.Label]:
        """The labels. Raises InvalidInput when two contradict each other or one is of nobody."""
        return domain.labels_of(label.model_dump() for label in self.labels)


def labelling(platform: Platform) -> APIRouter:
    """The route that stores labels; repeating a request changes nothing."""
    router = APIRouter(prefix="/api/v1")

    @router.post(
        "/labels",
        openapi_extra={
            "requestBody": {"content": {"application/json": {"schema": Labels.model_json_schema()}}}
        },
    )
    async def labels(request: Request) -> dict[str, int]:
        """Store true classes by prediction id or unit; the first label of a prediction stays."""
        _authorise(request, platform)
        given = read_labels(await _body(request))
        added = await run_in_threadpool(platform.labels.add, given.found, given.source, given.model)
        return asdict(added)

    return router


def read_labels(body: bytes) -> Labels:
    """Read a request body.

    Raises:
        InvalidInput: it is no such document.
    """
    try:
        given = Labels.model_validate_json(body)
    except ValidationError as error:
        faults = tuple(
            Fault(".".join(map(str, e["loc"])) or "body", e["msg"])
            for e in error.errors(include_input=False, include_url=False, include_context=False)
        )
        hint = json.dumps({"labels": [{"prediction_id": "…", "classes": [3]}], "source": "…"},
                          ensure_ascii=False)  # fmt: skip
        raise InvalidInput("The labels are malformed.", faults, f"Expected: {hint}") from error
    return given


def _authorise(request: Request, platform: Platform) -> None:
    found = standing(request.headers.get("authorization"), api_token(platform.settings))
    if found == "missing":
        raise HTTPException(401, "A token is needed.", {"WWW-Authenticate": "Bearer"})
    if found == "wrong":
        raise HTTPException(403, "This token is not the right one.")


async def _body(request: Request) -> bytes:
    """The body, up to the limit; more is not read."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise HTTPException(413, f"The body is larger than {BODY_LIMIT} bytes.")
    return bytes(body)
