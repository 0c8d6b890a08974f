"""``steelyard predict`` where something else than the edge, or a full one, answers."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from steelyard.cli.app import FAILED

Ask = Callable[..., tuple[int, str, str]]


class Full(BaseHTTPRequestHandler):
    """Says in plain text that it has no room, as the edge in Python does."""

    def do_POST(self) -> None:
        """Read the request, refuse it."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(503)
        self.send_header("content-type", "text/plain")
        self.end_headers()
        self.wfile.write(b"Service Unavailable")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on standard error."""


@pytest.fixture
def port() -> Iterator[int]:
    """Where it answers."""
    server = HTTPServer(("127.0.0.1", 0), Full)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_answer_that_is_no_json_is_told(
    port: int, tmp_path: Path, typed_at: Callable[..., Ask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message with the status and what was said, and never a traceback."""
    monkeypatch.setenv("STEELYARD_EDGE_PORT", str(port))
    request = tmp_path / "request.json"
    request.write_text("{}")
    code, out, err = typed_at(tmp_path, "predict")("digits", "--data", str(request))
    assert (code, out) == (FAILED, "")
    assert "answered 503 without JSON: 'Service Unavailable'" in err and "steelyard status" in err
