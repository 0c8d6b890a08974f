import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from steelyard.api import errors
from steelyard.api.security import KnownHosts, LastResort, SecurityHeaders
from steelyard.domain.errors import (
    Conflict,
    Fault,
    InvalidInput,
    NotFound,
    Refused,
    SteelyardError,
    Unavailable,
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInput("x"), 400),
        (NotFound("x"), 404),
        (Conflict("x"), 409),
        (Refused("x"), 422),
        (Unavailable("x"), 503),
        (SteelyardError("x"), 500),
    ],
)
def test_status_of_every_error(error: SteelyardError, status: int) -> None:
    """Each kind of error has one status, and one that nobody classified is our own fault."""
    assert errors.status_of(error) == status


def test_every_kind_of_error_is_in_the_table() -> None:
    """Somebody who adds a kind of error is reminded to choose its status."""
    kinds = SteelyardError.__subclasses__()
    ours = {one for one in kinds if one.__module__.startswith("steelyard.")}
    assert ours == set(errors.STATUS)


def test_malformed_input_names_every_fault_up_to_a_limit() -> None:
    """A client sees what is wrong where, but ten thousand faults do not become an answer."""
    faults = tuple(Fault(f"labels.{n}", "is wrong") for n in range(10_000))
    told = errors.document(InvalidInput("Bad labels.", faults, "Mend them."))
    assert told["error"] == "Bad labels."
    assert told["hint"] == "Mend them."
    assert told["faults"][0] == "labels.0: is wrong"
    assert len(told["faults"]) == errors.MOST_FAULTS


def _failing_app() -> FastAPI:
    app = FastAPI()
    errors.register(app)

    @app.get("/{path:path}")
    def fail(path: str) -> None:
        if path.startswith("crash"):
            raise RuntimeError("the secret of the inside")
        raise NotFound("There is no <b>model</b>.", "Look elsewhere.")

    app.add_middleware(LastResort)
    app.add_middleware(SecurityHeaders)
    return app


def test_a_program_gets_json_and_a_browser_a_page() -> None:
    """The same words, in the form that was asked for; files are JSON for everybody."""
    client = TestClient(_failing_app())
    assert client.get("/models/x").json() == {
        "error": "There is no <b>model</b>.",
        "hint": "Look elsewhere.",
    }
    browser = {"accept": "text/html"}
    shown = client.get("/models/x", headers=browser)
    assert shown.status_code == 404
    assert "There is no &lt;b&gt;model&lt;/b&gt;." in shown.text
    assert client.get("/models/x.json", headers=browser).json()["hint"] == "Look elsewhere."
    assert client.get("/api/v1/x", headers=browser).json()["hint"] == "Look elsewhere."


def test_a_crash_shows_nothing_of_the_inside() -> None:
    """An unforeseen exception is a plain 500 with the security headers; no traceback, no text."""
    found = TestClient(_failing_app()).get("/crash")
    assert found.status_code == 500
    assert "secret" not in found.text
    assert "Traceback" not in found.text
    assert "default-src 'self'" in found.headers["content-security-policy"]


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("not called")


@pytest.mark.parametrize(
    ("served", "asked", "known"),
    [
        ("127.0.0.1", "127.0.0.1:8090", True),
        ("127.0.0.1", "localhost:8090", True),
        ("127.0.0.1", "LOCALHOST", True),
        ("127.0.0.1", "[::1]:8090", True),
        ("ml.example", "ml.example:8090", True),
        ("127.0.0.1", "evil.example", False),
        ("127.0.0.1", "localhost.evil.example", False),
        ("127.0.0.1", "192.0.2.7", False),
        ("127.0.0.1", "", False),
        ("0.0.0.0", "192.0.2.7:8090", True),
        ("0.0.0.0", "[2001:db8::7]:8090", True),
        ("0.0.0.0", "evil.example", False),
    ],
)
def test_whose_host_is_served(served: str, asked: str, known: bool) -> None:
    """Our own names pass with any port; a stranger's name never does, whatever we listen on."""
    assert KnownHosts(_nothing, served).knows(asked) is known
