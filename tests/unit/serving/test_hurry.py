"""A rollback does not wait: not for the next turn, and not for what a turn does before traffic."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine
from tests.nothing_served import BareEdge

from steelyard.adapters.sql.applications import ApplicationStore
from steelyard.bootstrap import Platform
from steelyard.domain.rollout import SECOND_US
from steelyard.domain.traffic import Route
from steelyard.ports.applications import ONE, ApplicationState, Replicas, ServedVersion
from steelyard.settings import Settings
from steelyard_serving.bookkeeping import settled_after_us
from steelyard_serving.controller import Controller, run


class World(BareEdge):
    """Ray and the edge in one: all is ready. While ``answers`` is not set, Ray does not answer."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.answers = threading.Event()
        self.answers.set()
        self.waiting = threading.Event()

    def ensure(self, served: ServedVersion, replicas: Replicas = ONE) -> None:
        """It runs."""

    def remove(self, model: str, version: int) -> None:
        """It runs no more."""

    def states(self) -> Mapping[tuple[str, int], ApplicationState]:
        """Both versions are ready."""
        self.waiting.set()
        assert self.answers.wait(60)
        return {("digits", n): ApplicationState("ready") for n in (1, 2)}

    def apply(self, routes: Mapping[str, Route], deployed: frozenset[tuple[str, int]]) -> None:
        """Traffic is as it should be at once."""
        assert deployed == {("digits", 1), ("digits", 2)}
        self.routes = dict(routes)


@contextmanager
def running(controller: Controller, tick_s: float) -> Iterator[None]:
    """Its turns, in a thread."""
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(controller, stop, tick_s))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def left_the_candidate(world: World) -> None:
    """Wait until no traffic goes to it."""
    deadline = time.monotonic() + 30
    while world.routes["digits"].shares:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_rollback_does_not_wait_for_what_a_turn_waits_for(seeded: Platform) -> None:
    """Traffic has left the candidate while Ray still does not answer."""
    world = World()
    controller = Controller(seeded, world, world, holder="test")
    assert controller.turn() and world.routes["digits"].shares
    world.answers.clear()
    world.waiting.clear()
    with running(controller, 0.01):
        assert world.waiting.wait(30)
        seeded.rollouts.rollback("digits", "ada", "it is bad")
        left_the_candidate(world)
        assert not world.answers.is_set()
        world.answers.set()


def test_a_rollback_does_not_wait_for_the_next_turn(seeded: Platform) -> None:
    """With an hour between two turns it is carried out within seconds, and the next turn comes."""
    world = World()
    controller = Controller(seeded, world, world, holder="test")
    assert controller.turn()
    world.waiting.clear()
    with running(controller, 3_600.0):
        seeded.rollouts.rollback("digits", "ada", "it is bad")
        left_the_candidate(world)
        assert world.waiting.wait(30)
    for _ in range(5):  # what a turn decides is a reason for another
        assert controller.turn()
    assert not controller.is_asked()


class Interrupted(ApplicationStore):
    """Lets the controller's other threads have their turn before each thing it publishes."""

    def __init__(self, engine: Engine, controller: Controller) -> None:
        super().__init__(engine)
        self.controller = controller
        self.published_keys = 0

    def publish(self, model: str, version: int, phase: str, reason: str, now_us: int) -> None:
        """First the others."""
        self.controller.hear()
        self.published_keys += 1
        super().publish(model, version, phase, reason, now_us)


def test_a_controller_that_starts_again_does_not_take_versions_away(seeded: Platform) -> None:
    """What it has not looked at yet is not told to the edge, though a decision is new to it."""
    assert Controller(seeded, World(), World(), holder="test").turn()
    world = World()
    again = Controller(seeded, world, world, holder="test")
    store = Interrupted(seeded.engine, again)
    seeded.rollout_store.applications = store
    assert again.turn() and store.published_keys == 2
    assert world.routes["digits"].shares


class Broken(Controller):
    """One that cannot look whether somebody decided."""

    def is_asked(self) -> bool:
        """Nobody can know."""
        raise RuntimeError("broken")


def test_a_controller_without_turns_is_none(seeded: Platform) -> None:
    """It ends, with its threads, and the supervisor starts another."""
    world = World()
    stop = threading.Event()
    with pytest.raises(RuntimeError, match="broken"):
        run(Broken(seeded, world, world, holder="test"), stop, 3_600.0)
    assert stop.is_set()
    assert not {"teller", "hearer"} & {thread.name for thread in threading.enumerate()}


def test_what_is_not_collected_yet_is_not_judged_yet() -> None:
    """Intervals stay open for longer while the books are behind."""
    settings = Settings(meter_interval_s=2, tick_s=1)
    usual = settled_after_us(settings, collected_us=10 * SECOND_US, now_us=11 * SECOND_US)
    behind = settled_after_us(settings, collected_us=10 * SECOND_US, now_us=16 * SECOND_US)
    assert usual == settings.settle_s * SECOND_US
    assert behind == usual + 5 * SECOND_US
