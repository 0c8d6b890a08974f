"""What the controller makes of the edge's own guard."""

import logging
from collections.abc import Mapping
from dataclasses import replace

import pytest

from steelyard.bootstrap import Platform
from steelyard.domain.serving_policy import ServingPolicy
from steelyard_serving.controller import Controller

from .test_hurry import World

LOG = "steelyard.controller"


class Guarding(World):
    """An edge that keeps what it is told, and whose guard may have acted."""

    def __init__(self) -> None:
        super().__init__()
        self.steered: dict[str, ServingPolicy] = {}
        self.guarded: frozenset[tuple[str, int]] = frozenset()

    def steer(
        self, policies: Mapping[str, ServingPolicy], deployed: frozenset[tuple[str, int]]
    ) -> None:
        """Keep it."""
        self.steered = dict(policies)
        assert deployed == {("digits", 1), ("digits", 2)}

    def diverted(self) -> frozenset[tuple[str, int]]:
        """Whatever the test says."""
        return self.guarded


def test_it_is_logged_once_each_time(seeded: Platform, caplog: pytest.LogCaptureFixture) -> None:
    """Not at every turn, and again when it comes again."""
    caplog.set_level(logging.WARNING, LOG)
    world = Guarding()
    controller = Controller(seeded, world, world, holder="test")
    said = []
    for guarded in ({("digits", 2)}, {("digits", 2)}, set(), {("digits", 2)}):
        caplog.clear()
        world.guarded = frozenset(guarded)
        assert controller.turn()
        said.append([r.getMessage() for r in caplog.records if "digits/2" in r.getMessage()])
    assert [len(lines) for lines in said] == [1, 0, 0, 1]
    assert "the edge asks stable instead" in said[0][0]


def test_the_edge_is_told_of_policies(seeded: Platform) -> None:
    """As soon as somebody sets one."""
    world = Guarding()
    controller = Controller(seeded, world, world, holder="test")
    seeded.policies.change("digits", {"rules": "x-canary=always:2"}, "ada", "a trial")
    assert controller.turn()
    assert world.steered == {"digits": replace(ServingPolicy(), rules="x-canary=always:2")}
