"""Copies for a shadow: who is copied, what goes along, and that the live path never waits."""

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from steelyard.bootstrap.counting import counters
from steelyard.domain.serving_snapshot import Shadow as Rule
from steelyard.domain.serving_snapshot import Snapshot, opened, sealed
from steelyard.ports.applications import ServedVersion
from steelyard.settings import Settings
from steelyard_serving.internal import INTERNAL, is_internal, mark
from steelyard_serving.metrics import Metrics
from steelyard_serving.shadow import WAITING, WAITING_BYTES, Shadow

ALL = Rule(version=2, share_bp=10_000)
STABLE = {
    "x-steelyard-arm": "stable", "x-steelyard-bucket": "9999", "x-steelyard-lineage": "r1",
    "x-steelyard-generation": "7", "x-steelyard-unit": "ada", "content-type": "application/json",
    "authorization": "Bearer sy_secret", "content-encoding": "gzip", "x-request-id": "1",
}  # fmt: skip


class Serve:
    """What stands at Ray Serve's port: keeps what it is asked, and answers when it may."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.answers = {"x-steelyard-answer": "1"}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.asked.append(
                    (self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                )
                outer.may_answer.wait(20)
                self.send_response(200)
                for name, value in (*outer.answers.items(), ("content-length", "2")):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: Any) -> None:
                """Nobody reads it."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        """Stop listening."""
        self.may_answer.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A listener."""
    made = Serve()
    yield made
    made.close()


@pytest.fixture
def shadow(
    serve: Serve, settings: Settings, make_served: Callable[[int], ServedVersion]
) -> Iterator[Shadow]:
    """The sender of version 1, towards the listener as the door of versions 2 and 3."""
    doors = settings.run_dir / "doors"
    doors.mkdir(parents=True)
    version = make_served(1).version
    for number in (2, 3):
        port = str(serve.server.server_port)
        (doors / f"{version.model}-v{number}").write_text(port, encoding="ascii")
    made = Shadow(settings, version, Metrics(settings, version))
    yield made
    serve.may_answer.set()
    made.stop()


def _counted(settings: Settings) -> tuple[int, ...]:
    (counts,) = counters(settings).totals().values()
    return tuple(counts[f"shadow_{name}"] for name in ("sent", "failed", "dropped"))


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_copy_names_what_it_repeats_and_carries_no_key(
    shadow: Shadow, serve: Serve, settings: Settings
) -> None:
    """The same unit, bucket and body; the shadow's arm; our mark instead of the client's key."""
    shadow.offer([ALL], "infer", STABLE, b"[1]", "p-1")
    _until(lambda: _counted(settings) == (1, 0, 0))
    ((path, headers, body),) = serve.asked
    assert (path, body) == ("/v/scale/2/infer", b"[1]")
    assert headers["x-steelyard-arm"] == "shadow"
    assert headers["x-steelyard-shadows"] == "p-1"
    for name in ("unit", "bucket", "lineage", "generation"):
        assert headers[f"x-steelyard-{name}"] == STABLE[f"x-steelyard-{name}"]
    assert not {"authorization", "content-encoding", "x-prediction-id"} & headers.keys()
    assert is_internal(headers, mark(settings))
    assert not is_internal({INTERNAL: "guessed"}, mark(settings))
    assert not is_internal({}, mark(settings))


def test_the_old_version_repeats_what_the_new_one_answers(
    shadow: Shadow, serve: Serve, settings: Settings
) -> None:
    """In a probation the canary answers everybody; several rules each get their copy."""
    back, third = Rule(2, 10_000, of="canary"), Rule(3, 10_000)
    live = STABLE | {"x-steelyard-arm": "canary"}
    shadow.offer([back, third], "infer", live, b"", "p-1")
    shadow.offer([back, third], "infer", STABLE, b"", "p-2")
    shadow.offer([ALL, third], "infer", STABLE, b"", "p-3")
    shadow.offer([back], "infer", STABLE | {"x-steelyard-arm": "shadow"}, b"", "p-4")
    _until(lambda: _counted(settings) == (4, 0, 0))
    assert [(path[9], headers["x-steelyard-shadows"]) for path, headers, _ in serve.asked] == [
        ("2", "p-1"), ("3", "p-2"), ("2", "p-3"), ("3", "p-3")
    ]  # fmt: skip


@pytest.mark.parametrize("arm", ["canary", "pinned", "shadow", None])
def test_only_what_stable_answered_is_copied(
    shadow: Shadow, serve: Serve, settings: Settings, arm: str | None
) -> None:
    """A copy of a copy would never end."""
    headers = {**STABLE, "x-steelyard-arm": arm} if arm else {"x-steelyard-bucket": "9999"}
    shadow.offer([ALL], "infer", headers, b"", "p-1")
    shadow.offer([], "infer", STABLE, b"", "p-2")
    shadow.offer([Rule(1, 10_000)], "infer", STABLE, b"", "p-3")
    shadow.offer([ALL], "infer", STABLE, b"", "p-4")
    _until(lambda: _counted(settings) == (1, 0, 0))
    assert [headers["x-steelyard-shadows"] for _, headers, _ in serve.asked] == ["p-4"]


def test_replicas_are_told_who_repeats_whom() -> None:
    """Every rule of a model comes out of the signed document as it went in."""
    rules = {"scale": (ALL, Rule(3, 500)), "other": (Rule(1, 400, of="canary"),)}
    assert opened(sealed(Snapshot(shadows=rules), b"key"), b"key").shadows == rules


def test_the_same_unit_is_always_or_never_copied(
    shadow: Shadow, serve: Serve, settings: Settings
) -> None:
    """The share is a range of buckets, exactly."""
    for bucket in (*range(8_990, 9_010), 0, 9_999):
        headers = STABLE | {"x-steelyard-bucket": str(bucket)}
        shadow.offer([Rule(2, 1_000)], "infer", headers, b"", "p")
    _until(lambda: _counted(settings) == (11, 0, 0))
    found = sorted(int(headers["x-steelyard-bucket"]) for _, headers, _ in serve.asked)
    assert found == [*range(9_000, 9_010), 9_999]
    for odd in ("", "x", "-1", "9" * 30):
        shadow.offer([Rule(2, 1)], "infer", STABLE | {"x-steelyard-bucket": odd}, b"", "p")
    assert _counted(settings) == (11, 0, 0)


def test_a_shadow_that_hangs_costs_copies_and_not_answers(
    shadow: Shadow, serve: Serve, settings: Settings
) -> None:
    """With nobody answering, offers return at once: what finds no room is dropped and counted.

    KServe's logger blocked answers when its queue was full.
    """
    serve.may_answer.clear()
    shadow.offer([ALL], "infer", STABLE, b"", "p-0")
    _until(lambda: len(serve.asked) == 1)
    for n in range(WAITING + 40):
        shadow.offer([ALL], "infer", STABLE, b"", f"p-{n}")
    assert _counted(settings) == (0, 0, 40)
    serve.may_answer.set()
    _until(lambda: _counted(settings) == (WAITING + 1, 0, 40))


def test_large_bodies_do_not_pile_up(shadow: Shadow, serve: Serve, settings: Settings) -> None:
    """The room is in bytes, too."""
    serve.may_answer.clear()
    half = bytes(WAITING_BYTES // 2)
    for n in range(3):
        shadow.offer([ALL], "infer", STABLE, half, f"p-{n}")
    assert _counted(settings) == (0, 0, 1)
    serve.may_answer.set()
    _until(lambda: _counted(settings) == (2, 0, 1))
    shadow.offer([ALL], "infer", STABLE, half, "p-3")
    _until(lambda: _counted(settings) == (3, 0, 1))


def test_what_no_replica_answered_counts_as_failed(
    shadow: Shadow, serve: Serve, settings: Settings
) -> None:
    """Ray Serve's own 200s and a closed port are no answers of a shadow."""
    serve.answers = {}
    shadow.offer([ALL], "infer", STABLE, b"", "p-1")
    _until(lambda: _counted(settings) == (0, 1, 0))
    serve.close()
    shadow.offer([ALL], "infer", STABLE, b"", "p-2")
    _until(lambda: _counted(settings) == (0, 2, 0))


def test_stopping_ends_the_thread_and_drops_what_waits(
    shadow: Shadow, serve: Serve, settings: Settings
) -> None:
    """A replica that stops does not wait for its shadow; stopping twice is stopping once."""
    serve.may_answer.clear()
    shadow.offer([ALL], "infer", STABLE, b"", "p-0")
    _until(lambda: len(serve.asked) == 1)
    shadow.offer([ALL], "infer", STABLE, b"", "p-1")
    shadow.stop()
    shadow.stop()
    assert _counted(settings) == (0, 0, 1)
    serve.may_answer.set()
    _until(lambda: _counted(settings) == (1, 0, 1))
