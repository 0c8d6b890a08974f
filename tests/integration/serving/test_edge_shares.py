"""The edge among several candidates: its C arithmetic against the Python rule."""

import json
from http.client import HTTPConnection

import pytest

from steelyard.domain.traffic import Share, bucket, choose, in_order
from steelyard_serving.edge.files import edge_files
from steelyard_serving.edge.maps import route_of
from steelyard_serving.secret_files import bucket_key

from .conftest import Chosen, in_c

pytestmark = [pytest.mark.integration, in_c]
UNITS = [*(f"unit {n}" for n in range(150)), "ünïcode", "a|b"]
TABLES = {
    "none": [],
    "one": [Share(2, 0, 500)],
    "one with all": [Share(2, 0, 10_000)],
    "one whose sibling ended": [Share(3, 5_000, 2_500)],
    "two": [Share(2, 0, 2_500), Share(3, 5_000, 5_000)],
    "two not from the first bucket on": [Share(2, 1_000, 1), Share(3, 3_333, 3_333)],
    "four with all": [Share(version, (5 - version) * 2_500, 2_500) for version in (5, 4, 3, 2)],
    "four": [Share(2, 100, 2_400), Share(3, 2_500, 1), Share(4, 5_000, 50), Share(5, 7_500, 2_499)],
}


@pytest.mark.parametrize("shares", TABLES.values(), ids=TABLES)
def test_every_unit_lands_where_the_rule_says(chosen: Chosen, shares: list[Share]) -> None:
    """With up to four candidates, wherever their buckets lie; the replica is told the arm."""
    live = chosen.route(*in_order(shares))
    key = bucket_key(chosen.settings)
    for unit in UNITS:
        position = bucket(key, "r1", unit)
        arm, version = choose(live, position)
        status, told = chosen.ask({"x-unit-id": unit.encode()})
        found = {name: told[name] for name in ("version", "arm", "bucket", "lineage", "generation")}
        assert status == 200 and found == {
            "version": version, "arm": arm, "bucket": str(position), "lineage": "r1",
            "generation": str(live.generation),
        }, unit  # fmt: skip


def test_the_edges_own_line_says_the_whole_table(chosen: Chosen) -> None:
    """What is on disk for a restarted edge reads back as the route that was asked for."""
    for shares in TABLES.values():
        route = chosen.route(*in_order(shares))
        _, _, line = edge_files(chosen.settings).routes.read_text().partition(" ")
        assert route_of("m", line.strip()) == route


def test_clearml_a_weight_is_live_for_the_request_after_it(chosen: Chosen) -> None:
    """Nothing is polled: once a table is applied, no request is answered by the one before."""
    door = HTTPConnection(chosen.settings.host, chosen.settings.edge_port, timeout=30)
    for turn in range(50):
        chosen.route(*((Share(2, 0, 10_000),) if turn % 2 else ()))
        door.request("POST", "/v2/models/m/infer", b"{}", {"x-unit-id": f"unit {turn}"})
        assert json.load(door.getresponse())["version"] == (2 if turn % 2 else 1)
    door.close()
