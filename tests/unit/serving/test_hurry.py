"""A rollback does not wait: not for the next turn, and not for what a turn does before traffic."""

import threading
import time
from collections.abc import Mapping

from tests.nothing_served import BareEdge

from steelyard.bootstrap import Platform
from steelyard.domain.traffic import Route
from steelyard.ports.applications import ONE, ApplicationState, Replicas, ServedVersion
from steelyard_serving.controller import Controller, run


class World(BareEdge):
    """Ray and the edge in one: all is ready, and what was routed is seen at each look at Ray."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.at_looks: list[dict[str, Route]] = []

    def ensure(self, served: ServedVersion, replicas: Replicas = ONE) -> None:
        """It runs."""

    def remove(self, model: str, version: int) -> None:
        """It runs no more."""

    def states(self) -> Mapping[tuple[str, int], ApplicationState]:
        """Both versions are ready; remembers how traffic is meanwhile."""
        self.at_looks.append(dict(self.routes))
        return {("digits", n): ApplicationState("ready") for n in (1, 2)}

    def apply(self, routes: Mapping[str, Route], deployed: frozenset[tuple[str, int]]) -> None:
        """Traffic is as it should be at once."""
        assert deployed == {("digits", 1), ("digits", 2)}
        self.routes = dict(routes)


def test_a_rollback_comes_before_everything_else_of_a_turn(seeded: Platform) -> None:
    """Traffic has left the candidate when Ray is looked at, however long that takes."""
    world = World()
    controller = Controller(seeded, world, world, holder="test")
    assert controller.turn() and world.routes["digits"].shares
    seeded.rollouts.rollback("digits", "ada", "it is bad")
    assert controller.is_asked()
    assert controller.turn() and not world.at_looks[-1]["digits"].shares
    assert controller.turn() and not controller.is_asked()


def test_a_rollback_does_not_wait_for_the_next_turn(seeded: Platform) -> None:
    """With an hour between two turns it is carried out within seconds."""
    world, stop = World(), threading.Event()
    controller = Controller(seeded, world, world, holder="test")
    assert controller.turn()
    thread = threading.Thread(target=run, args=(controller, stop, 3_600.0))
    thread.start()
    try:
        seeded.rollouts.rollback("digits", "ada", "it is bad")
        deadline = time.monotonic() + 30
        while world.routes["digits"].shares:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        stop.set()
        thread.join()
