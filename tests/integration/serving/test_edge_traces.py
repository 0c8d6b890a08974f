"""When a traced request came to the edge, as the replica is told it."""

import time

import pytest

from .conftest import Chosen

pytestmark = pytest.mark.integration
TRACED: dict[str, str | bytes] = {
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
}


def test_a_traced_request_says_when_it_came(chosen: Chosen) -> None:
    """In microseconds of Unix time, by the edge's word alone: a client's own is taken off."""
    chosen.route()
    before_us = time.time_ns() // 1_000
    _, told = chosen.ask({**TRACED, "x-steelyard-arrived-us": "1"})
    assert before_us <= int(told["arrived-us"]) <= time.time_ns() // 1_000


def test_others_do_not(chosen: Chosen) -> None:
    """What nobody follows costs nothing."""
    chosen.route()
    assert chosen.ask({"x-steelyard-arrived-us": "1"})[1]["arrived-us"] is None
