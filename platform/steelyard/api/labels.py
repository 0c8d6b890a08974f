"""True answers that come later: ``POST /api/v1/labels``, by whoever has the token.

A body is a JSON document, or a table in CSV or Parquet as ``steelyard labels add`` takes files.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.exceptions import HTTPException

from steelyard.api.credentials import api_token, standing
from steelyard.bootstrap import Platform
from steelyard.bootstrap.label_tables import sent_label_rows
from steelyard.domain import labels as domain
from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.model_version import MODEL_NAME
from steelyard.services.labels import Added

BODY_LIMIT = 4 * 2**20
TABLE_LIMIT = 256 * 2**20
IN_MEMORY = 2**20
"""A body above so many bytes waits on disk until it is whole."""
TABLES: Mapping[str, str] = {"text/csv": ".csv", "application/vnd.apache.parquet": ".parquet"}
"""Media types of tables, and the suffix that a file of such has."""
Class = Annotated[int, Field(ge=0, le=2**31 - 1)]
Source = Annotated[str, StringConstraints(min_length=1, max_length=100)]
ModelName = Annotated[str, StringConstraints(pattern=f"^{MODEL_NAME.pattern}$")]


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
    source: Source
    model: ModelName | None = None

    @property
    def found(self) -> list[domain.Label]:
        """The labels. Raises InvalidInput when two contradict each other or one is of nobody."""
        return domain.labels_of(label.model_dump() for label in self.labels)


def labelling(platform: Platform) -> APIRouter:
    """The route that stores labels; repeating a request changes nothing."""
    router = APIRouter(prefix="/api/v1")

    def authorised(request: Request) -> None:
        _authorise(request, platform)

    @router.post(
        "/labels", dependencies=[Depends(authorised)],
        openapi_extra={"requestBody": {"content": _content()}},
    )  # fmt: skip
    async def labels(
        request: Request,
        source: Annotated[Source | None, Query(description="Who says so, of a table.")] = None,
        model: Annotated[ModelName | None, Query(description="Whose units, of a table.")] = None,
    ) -> dict[str, int]:
        """Store true classes by prediction id or unit; the first label of a prediction stays."""
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        suffix = TABLES.get(media_type)
        with SpooledTemporaryFile(IN_MEMORY) as body:
            await _receive(request, body, TABLE_LIMIT if suffix else BODY_LIMIT)
            if suffix is None:
                given = read_labels(body.read())
                added = await run_in_threadpool(_add, platform, given)
            else:
                added = await run_in_threadpool(_add_table, platform, body, suffix, source, model)
        return asdict(added)

    return router


def _content() -> dict[str, object]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    document = {"schema": Labels.model_json_schema()}
    return {"application/json": document, **dict.fromkeys(TABLES, binary)}


def _add(platform: Platform, given: Labels) -> Added:
    return platform.labels.add(given.found, given.source, given.model)


def _add_table(
    platform: Platform, table: IO[bytes], suffix: str, source: str | None, model: str | None
) -> Added:
    if source is None:
        fault = Fault("source", "says who labelled; a table needs it as ?source=")
        raise InvalidInput(str(fault), (fault,))
    found = domain.labels_of(sent_label_rows(table, suffix))
    return platform.labels.add(found, source, model)


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


async def _receive(request: Request, body: IO[bytes], limit: int) -> None:
    """Keep the body, up to the limit; more is not read."""
    taken = 0
    async for chunk in request.stream():
        taken += len(chunk)
        if taken > limit:
            raise HTTPException(413, f"The body is larger than {limit} bytes.")
        body.write(chunk)
    body.seek(0)
