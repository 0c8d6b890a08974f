"""Operating versions on a real Ray Serve: more replicas without a restart, and a shadow."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from steelyard.bootstrap.counting import counters
from steelyard.domain.serving_snapshot import Shadow, Snapshot
from steelyard.domain.traffic import Route
from steelyard.ports.applications import Replicas, ServedVersion
from steelyard.settings import Settings
from steelyard_serving.snapshot_file import SnapshotFile

pytestmark = [pytest.mark.alone, pytest.mark.integration]

Wait = Callable[[Callable[[], bool], float], None]
KEY = ("grow", 1)


@pytest.fixture
def growing(
    ray_cluster: Settings, applications: Any, versions: dict[int, ServedVersion], wait: Wait
) -> Iterator[ServedVersion]:
    """A version of a model of its own, with one replica; it is removed in the end."""
    served = replace(versions[1], version=replace(versions[1].version, model="grow"))
    applications.ensure(served)
    wait(lambda: applications.states()[KEY].phase == "ready", 60)
    yield served
    applications.remove(*KEY)
    wait(lambda: KEY not in applications.states(), 60)


def test_replicas_are_added_without_a_restart_of_those_that_run(
    ray_cluster: Settings, applications: Any, growing: ServedVersion, wait: Wait
) -> None:
    """1 -> 2 -> between 1 and 3 by load, and declared again after a restart of the controller."""
    from steelyard_serving.app import RayApplications

    folder = counters(ray_cluster)

    def pids() -> set[int]:
        assert applications.states()[KEY].phase == "ready"  # at every moment
        return {one.pid for one in folder.living() if one.served.model == "grow"}

    (first,) = pids()
    applications.ensure(growing, Replicas(2, 2))
    wait(lambda: len(pids()) == 2, 60)
    both = pids()
    assert first in both
    applications.ensure(growing, Replicas(1, 3))
    again = RayApplications(ray_cluster)
    again.ensure(growing, Replicas(1, 3))
    wait(lambda: again.states()[KEY].phase == "ready", 60)
    assert pids() == both


def test_a_shadow_answers_copies_and_nobody_else(
    ray_cluster: Settings, applications: Any, client: Any, route: Callable[..., Route],
    facts: Callable[[], list[dict[str, Any]]], wait: Wait,
) -> None:  # fmt: skip
    """The client hears stable; the shadow's replica records the pair, and is charged for it."""
    route()
    rules = SnapshotFile(ray_cluster)
    rules.write(Snapshot(shadows={"scale": (Shadow(2, 10_000),)}))
    seen: list[str] = []

    def copied() -> list[dict[str, Any]]:
        status, headers, body = client.infer([[1.0, 2.0, 3.0, 4.0]], unit="ada")
        assert (status, headers["x-model-version"]) == (200, "1")
        assert body["outputs"][0]["data"] == [1.0, 2.0, 3.0, 4.0]
        seen.append(headers["x-prediction-id"])
        return [fact for fact in facts() if fact.get("arm") == "shadow"]

    try:
        wait(lambda: bool(copied()), 30)
    finally:
        rules.write(Snapshot())
    copy = copied()[0]
    assert copy["shadows"] in seen
    assert (copy["model"], copy["version"], copy["status"]) == ("scale", 2, 200)

    def answered() -> list[dict[str, Any]]:
        return [fact for fact in facts() if fact.get("prediction_id") == copy["shadows"]]

    wait(lambda: bool(answered()), 10)
    (pair,) = answered()
    assert (pair["version"], pair["unit_sha256"]) == (1, copy["unit_sha256"])
    usages = {("shadow", 2)}
    wait(lambda: usages <= {(f.get("activity"), f.get("version")) for f in facts()}, 10)
