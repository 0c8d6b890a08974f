"""A turn looks at the latest answers only, and knows what counting all of them would say."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import pytest
from sqlalchemy import Engine

from steelyard.adapters.sql.arms import ArmStore
from steelyard.adapters.sql.facts import FactStore
from steelyard.adapters.sql.rollouts import RolloutStore
from steelyard.domain.audit import BLAMELESS, ArmName, PredictionRecord
from steelyard.domain.promotion import Change
from steelyard.domain.rollout import Recent, Rollout
from steelyard.domain.rollout_plan import Plan, Step, default_metrics
from steelyard.services.latest_answers import LatestAnswers

pytestmark = pytest.mark.integration
SECOND = 1_000_000
ARMS: list[ArmName] = ["canary", "canary", "stable", "stable", "shadow", "pinned"]
START, INTERVAL_S, SETTLE_S = 1_000 * SECOND, 10.0, 4.0
PLAN = Plan((Step(500), Step(5_000), Step(10_000)), default_metrics(), interval_s=INTERVAL_S)


@dataclass
class World:
    """Rollouts of some models, their users, and a list of everything that was answered."""

    engine: Engine
    rollouts: list[Rollout] = field(default_factory=list)
    answered: list[PredictionRecord] = field(default_factory=list)
    _numbers: "count[int]" = field(default_factory=count)

    def start(self, model: str, candidate: int, at_us: int, plan: Plan = PLAN) -> Rollout:
        """Begin a rollout beside version 1; siblings of a model share its first one's lineage."""
        lineage = next((r.lineage for r in self.rollouts if r.model == model), f"{model}-1")
        rollout = Rollout(
            f"{model}-{candidate}", model, "canary", 1, candidate, plan, lineage, at_us, "ada",
            step=0, generation=1, offset_bp=1_000 * candidate, max_weight_bp=1_000,
        )  # fmt: skip
        RolloutStore(self.engine).create([(rollout, Change("ada", "start"))])
        self.rollouts.append(rollout)
        return rollout

    def answer(
        self, rollout: Rollout, arm: ArmName, at_us: int, status: int = 200, **more: object
    ) -> None:
        """Something that a version answered, whose record may arrive at any time."""
        version = 1 if arm == "stable" else rollout.candidate
        record = PredictionRecord(
            f"p-{next(self._numbers)}", rollout.model, version, "d" * 64, "r", arm,
            rollout.lineage, rollout.generation, 0, at_us, 5, 1, status,
        )  # fmt: skip
        self.answered.append(replace(record, **more))  # type: ignore[arg-type]

    def arrive(self, records: Sequence[PredictionRecord]) -> None:
        """Records come to the ledger."""
        FactStore(self.engine).ingest(list(records), START)

    def said(self, rollout: Rollout, now_us: int) -> tuple[tuple[int, int], Recent]:
        """Requests of the step and of all, and what the guard sees: counted one by one."""
        own = [r for r in self.answered if r.model == rollout.model
               and r.lineage == rollout.lineage and not r.cached
               and r.received_us >= rollout.created_us]  # fmt: skip
        mine = [r for r in own if r.version == rollout.candidate]
        live = [r for r in mine if r.arm == "canary"]
        newest = sorted((r for r in mine if r.arm in ("canary", "shadow")
                         and r.received_us < now_us),
                        key=lambda r: -r.received_us)  # fmt: skip
        good = next((n for n, r in enumerate(newest) if not _failed(r)), len(newest))
        pairs = [
            (len(some), sum(map(_failed, some)))
            for some in ([r for r in newest if _late(r, now_us)],
                         [r for r in own if r.arm == "stable" and _late(r, now_us)])
        ]  # fmt: skip
        units = len({r.unit_sha256 or r.prediction_id for r in newest[:good]})
        step = sum(r.generation >= rollout.generation for r in live)
        return (step, len(live)), Recent(good, units, *pairs)


def _failed(record: PredictionRecord) -> bool:
    return record.status >= 500 and record.status not in BLAMELESS


def _late(record: PredictionRecord, now_us: int) -> bool:
    return now_us - INTERVAL_S * SECOND <= record.received_us < now_us


@pytest.fixture
def world(engine: Engine) -> World:
    """Nobody was asked yet."""
    return World(engine)


@pytest.fixture
def latest(engine: Engine) -> Callable[[], LatestAnswers]:
    """A controller's memory; a new one has none."""
    return lambda: LatestAnswers(ArmStore(engine))


def _asked(world: World, chosen: random.Random, now_us: int) -> None:
    """A second of answers, some of which are cached, fail, are pinned, or another candidate's."""
    for rollout in world.rollouts:
        for _ in range(chosen.randrange(6)):
            arm = chosen.choice(ARMS)
            status = chosen.choice([200, 200, 500, 503])
            unit = chosen.choice([None, "ann", "bob"])
            world.answer(rollout, arm, now_us + chosen.randrange(SECOND), status,
                         cached=int(chosen.random() < 0.2), unit_sha256=unit)  # fmt: skip


def test_counting_on_says_what_counting_all_says(
    world: World, latest: Callable[[], LatestAnswers]
) -> None:
    """Turn by turn, with records that come late, weights that change and clocks set back."""
    chosen, memory, now = random.Random(7), latest(), START
    for model, candidate in (("a", 2), ("a", 3), ("b", 2)):
        world.start(model, candidate, START)
    arrived = 0
    for turn in range(60):
        _asked(world, chosen, now)
        now += SECOND
        if turn == 20:
            world.start("c", 2, now)
        if turn == 30:
            world.rollouts[0] = replace(world.rollouts[0], step=1, generation=2)
        if turn == 40:
            now -= 25 * SECOND
        upto = len(world.answered) - (chosen.randrange(15) if turn < 59 else 0)
        world.arrive(world.answered[arrived:upto])
        arrived = max(arrived, upto)
        memory.look(world.rollouts, now, int(SETTLE_S * SECOND))
    assert arrived == len(world.answered)
    for rollout in world.rollouts:
        found = memory.requests(rollout), memory.recent(rollout)
        assert found == world.said(rollout, now), rollout.rollout_id
        assert found[0][1] > 0


def test_a_new_controller_counts_from_the_beginning(
    world: World, latest: Callable[[], LatestAnswers]
) -> None:
    """And of a rollout that is one more attempt nothing of the attempt before."""
    first = world.start("a", 2, START)
    for second in range(100):
        world.answer(first, "canary", START + second * SECOND)
    world.arrive(world.answered)
    now = START + 100 * SECOND
    memory = latest()
    memory.look([first], now, 0)
    assert memory.requests(first) == (100, 100)
    memory.look([first], now + SECOND, 0)
    assert memory.requests(first) == (100, 100)
    again = replace(first, created_us=START + 60 * SECOND)
    assert world.said(again, now)[0] == (40, 40)


def test_a_row_of_failures_is_remembered_while_nobody_asks(
    world: World, latest: Callable[[], LatestAnswers]
) -> None:
    """An hour later the last answers are still failures; one good one ends the row."""
    rollout, memory = world.start("a", 2, START), latest()
    for n in range(12):
        world.answer(rollout, "canary", START + n, 500, unit_sha256=f"u{n % 3}")
    world.arrive(world.answered)
    now = START + SECOND
    for _ in range(3):
        memory.look([rollout], now, 0)
        recent = memory.recent(rollout)
        assert (recent.failed_in_a_row, recent.failing_units) == (12, 3)
        now += 3_600 * SECOND
    world.answer(rollout, "canary", now - 1)
    world.arrive(world.answered[-1:])
    memory.look([rollout], now, 0)
    assert memory.recent(rollout) == Recent(0, 0, (1, 0), (0, 0))


def test_copies_are_the_requests_of_a_step_that_is_only_a_shadow(
    world: World, latest: Callable[[], LatestAnswers]
) -> None:
    """Those that were answered well; a failed one is the guard's all the same."""
    plan = replace(PLAN, steps=(Step(0, shadow_bp=1_000), *PLAN.steps[1:]))
    rollout, memory = world.start("a", 2, START, plan), latest()
    for n in range(30):
        world.answer(rollout, "shadow", START + n * SECOND, 500 if n % 10 == 9 else 200)
    world.arrive(world.answered)
    for now in (START + 30 * SECOND, START + 31 * SECOND):
        memory.look([rollout], now, 0)
        assert memory.requests(rollout) == (27, 27)
    assert memory.recent(rollout).canary == (9, 1)
