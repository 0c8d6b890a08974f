import socket
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from steelyard.api.app import create_app
from steelyard.bootstrap import Platform
from steelyard.settings import Settings

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "path",
    [
        "/", "/models/digits", "/models/digits.json", "/models/digits.csv", "/predictions/p-1",
        "/models/nope", "/health", "/static/steelyard.css", "/static/nope.css", "/api/v1/labels",
        "/api/v1/openapi.json",
    ],
)  # fmt: skip
def test_every_answer_wears_the_security_headers(client: TestClient, path: str) -> None:
    """Pages, files, errors and static files alike; nothing inline, nobody frames us."""
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "192.0.2.7:8090"])
@pytest.mark.parametrize("path", ["/", "/models/digits.json", "/static/steelyard.css"])
def test_a_foreign_host_is_refused(client: TestClient, host: str, path: str) -> None:
    """A site that points its own name at us gets no figure."""
    refused = client.get(path, headers={"host": host})
    assert refused.status_code == 400
    assert refused.json()["error"] == "This Host is not served here."
    assert "default-src 'self'" in refused.headers["content-security-policy"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8090"])
def test_our_own_names_are_served(client: TestClient, host: str) -> None:
    """Whatever the port is."""
    assert client.get("/", headers={"host": host}).status_code == 200


def test_health_is_that_of_the_database(fresh: TestClient, tmp_path: Path) -> None:
    """200 when the ledger answers; 503 with a hint, and not a crash, when it does not."""
    assert fresh.get("/health").json() == {"status": "ok"}
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"postgresql://u:hidden@127.0.0.1:{unused.getsockname()[1]}/ledger"
        broken = Platform(Settings(home=tmp_path / "other", database_url=SecretStr(url)))
        client = TestClient(create_app(broken), base_url="http://localhost")
        for path in ("/health", "/index.json"):
            told = client.get(path)
            assert told.status_code == 503
            assert told.json()["hint"]
            assert "hidden" not in told.text


def test_no_documentation_page_loads_scripts_from_elsewhere(client: TestClient) -> None:
    """The schema is served, the viewer that would load from another site is not."""
    assert client.get("/docs").status_code == 404
    paths = client.get("/api/v1/openapi.json").json()["paths"]
    assert set(paths) == {"/health", "/api/v1/labels", "/api/v1/predictions/{prediction_id}"}
