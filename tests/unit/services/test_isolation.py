"""What is wrong with one model is no other model's trouble."""

import logging
from typing import Any

import pytest
from tests.unit.services.conftest import Delivery
from tests.unit.serving.test_hurry import World

from steelyard.bootstrap import Platform
from steelyard.ports.applications import ApplicationState
from steelyard.services.rollout_turns import Turns
from steelyard_serving.controller import Controller


class Faulty(dict[tuple[str, int], ApplicationState]):
    """Versions of which one model's cannot be looked at."""

    def get(self, key: tuple[str, int], default: Any = None) -> Any:
        """Not of m."""
        if key[0] == "m":
            raise ZeroDivisionError("nobody asked")
        return super().get(key, default)


def test_a_fault_in_one_model_leaves_the_others_their_turn(delivery: Delivery) -> None:
    """The faulty one is named and stays as it is, and has its turn when it is mended."""
    for model in ("m", "n"):
        delivery.rollouts.deploy(model, 1, "ada")
    states = Faulty({(model, 1): ApplicationState("ready") for model in ("m", "n")})
    failed: dict[str, Exception] = {}
    turns = delivery.rollouts.turns.all(states, 0, delivery.token, failed.__setitem__)
    assert [turn.after.model for turn in turns] == ["n"]
    assert str(failed.pop("m")) == "nobody asked"
    turns = delivery.rollouts.turns.all(dict(states), 0, delivery.token, failed.__setitem__)
    assert [turn.after.model for turn in turns] == ["m", "n"] and not failed


def test_the_controller_names_it_once_and_goes_on(
    seeded: Platform, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traffic stays where it should be; the log says what is wrong, and again if it comes again."""
    world = World()
    controller = Controller(seeded, world, world, holder="test")
    assert controller.turn()
    before, world.routes = world.routes, {}
    with monkeypatch.context() as broken:
        broken.setattr(Turns, "_evidence", lambda _, rollout, states, token: Faulty().get(("m", 1)))
        for _ in range(2):
            assert controller.turn()
    assert world.routes == before
    assert controller.turn()
    said = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert [one.getMessage().partition(":")[0] for one in said] == ["digits"]
