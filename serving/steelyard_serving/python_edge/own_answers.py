"""What is asked about the server as a whole, answered from the maps; pure."""

from importlib.metadata import version

import orjson

from steelyard_serving.edge.paths import EXTENSIONS, NOT_OFFERED
from steelyard_serving.python_edge.addresses import READS
from steelyard_serving.python_edge.said import AGAIN, JSON, Asked, Said, document, refusal
from steelyard_serving.python_edge.table import Table

INDEX = "/v2/repository/index"
OWN = ("/v2", "/v2/", "/v2/health/live", "/v2/health/ready", "/ping", "/health", "/version")
SERVER = orjson.dumps(
    {"name": "steelyard", "version": version("steelyard"), "extensions": EXTENSIONS}
).decode()
MLFLOW = version("mlflow")


def own_answer(asked: Asked, table: Table, default_model: str) -> Said | None:
    """The answer to a question about the server; None: it is about something else."""
    path = asked.path
    if path in OWN and asked.method not in READS:
        return refusal(405, "use GET", {"allow": "GET"})
    if path == INDEX and asked.method != "POST":
        return refusal(405, "use POST", {"allow": "POST"})
    if path.startswith(NOT_OFFERED):
        return refusal(501, "this is not offered over HTTP")
    if path in ("/v2", "/v2/"):
        return document(SERVER)
    if path == "/v2/health/live":
        return document('{"live":true}')
    if path == "/v2/health/ready":
        if table.ready:
            return document('{"live":true,"ready":true}')
        return Said(503, b'{"live":true,"ready":false}', JSON | AGAIN)
    if path in ("/ping", "/health"):
        return Said(200 if table.answers(default_model) else 404, b"\n")
    return Said(200, MLFLOW.encode()) if path == "/version" else None


def index(table: Table, body: bytes) -> Said:
    """The repository index; ``{"ready": true}`` in the body asks for what is ready alone."""
    return document(table.index(wants_ready(body)))


def wants_ready(body: bytes) -> bool:
    """Whether a body asks for ready versions only; what is no such document does not.

    >>> wants_ready(b'{"ready":true}'), wants_ready(b"")
    (True, False)
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(found, dict) and found.get("ready") is True
