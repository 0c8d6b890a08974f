"""From an error to an answer: status codes are chosen here and nowhere else.

Clients get ``{"error": ..., "hint": ...}`` (and ``faults`` for malformed input); a browser that
asked for a page gets the same words as a page. A traceback goes to the log only.
"""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from steelyard.api.rendering import page
from steelyard.domain.errors import (
    Conflict,
    Fault,
    InvalidInput,
    NotFound,
    Refused,
    SteelyardError,
    Unavailable,
)

STATUS: Mapping[type[SteelyardError], int] = {
    InvalidInput: 400,
    NotFound: 404,
    Conflict: 409,
    Refused: 422,
    Unavailable: 503,
}
"""Refused is 422: the caller may ask, but a check says no. 401 and 403 are about credentials."""
MOST_FAULTS = 20
FILES = (".json", ".csv")


def status_of(error: SteelyardError) -> int:
    """The HTTP status of a domain error; 500 for one that the table does not know."""
    return next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)


def document(error: SteelyardError) -> dict[str, Any]:
    """What a client is told: the error, what to do, and at most 20 faults."""
    told: dict[str, Any] = {"error": error.message, "hint": error.hint}
    if isinstance(error, InvalidInput) and error.faults:
        told["faults"] = [str(fault) for fault in error.faults[:MOST_FAULTS]]
    return told


def answer(
    request: Request, status: int, told: dict[str, Any], headers: Mapping[str, str] | None = None
) -> Response:
    """The same words as JSON, or as a page for a browser that asked for one."""
    path = request.url.path
    wants_page = "text/html" in request.headers.get("accept", "")
    if wants_page and not path.startswith("/api/") and not path.endswith(FILES):
        return page("error.html", status, headers=headers, **{"hint": "", **told})
    return JSONResponse(told, status, headers)


def register(app: FastAPI) -> None:
    """Give every kind of error its answer."""

    @app.exception_handler(SteelyardError)
    def ours(request: Request, error: SteelyardError) -> Response:
        return answer(request, status_of(error), document(error))

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> Response:
        faults = tuple(Fault(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors())
        return ours(request, InvalidInput("The request is malformed.", faults))

    @app.exception_handler(OperationalError)
    def no_database(request: Request, _error: OperationalError) -> Response:
        hint = "See `steelyard status` and the log of the ledger's database."
        return ours(request, Unavailable("The ledger's database does not answer.", hint))

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        told = {"error": str(error.detail), "hint": ""}
        if error.status_code == 404:
            told = {"error": "There is no such page.", "hint": "Start at the list of models: /"}
        return answer(request, error.status_code, told, error.headers)
