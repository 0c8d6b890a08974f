"""Pairs of a live answer and the shadow's, as a rollout's metrics count them."""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import Engine

from steelyard.adapters.sql.arms import ArmStore
from steelyard.adapters.sql.facts import FactStore
from steelyard.adapters.sql.labels import LabelStore
from steelyard.domain.analysis import Metric
from steelyard.domain.audit import ArmName, PredictionRecord
from steelyard.domain.e_process import Interval
from steelyard.domain.rollout import Stretch

pytestmark = pytest.mark.integration

ORIGIN, LENGTH, COUNT = 1_100, 700, 5
END = ORIGIN + COUNT * LENGTH
STABLE, CANDIDATE, SIBLING = 1, 2, 3
DIFFER, PAIRED = Metric("disagreement", limit=0.1), Metric("paired")
Key = tuple[int, int]


@dataclass(frozen=True)
class Pair:
    """One live answer and its copy; ``label`` is the class that is right, None when unknown."""

    number: int
    at_us: int
    unit: str | None
    candidate_live: bool
    candidate: int | None
    stable: int | None
    label: int | None = None
    generation: int = 1
    live_status: int = 200
    copy_status: int = 200
    cached: int = 0
    lineage: str = "r1"
    copier: int | None = None

    @property
    def key(self) -> Key:
        """Weight table and start of its interval."""
        return self.generation, ORIGIN + (self.at_us - ORIGIN) // LENGTH * LENGTH

    @property
    def counts(self) -> bool:
        """Whether it compares the two versions of this rollout."""
        return (
            self.live_status == self.copy_status == 200 and not self.cached
            and self.lineage == "r1" and self.copier is None and ORIGIN <= self.at_us < END
            and None not in (self.candidate, self.stable)
        )  # fmt: skip

    @property
    def records(self) -> Iterator[PredictionRecord]:
        """What the two replicas wrote."""
        versions = (STABLE, CANDIDATE, self.stable, self.candidate)
        if self.candidate_live:
            versions = (CANDIDATE, STABLE, self.candidate, self.stable)
        live, copier, answered, copied = versions
        arm: ArmName = "canary" if self.candidate_live else "stable"
        yield self._record(f"live-{self.number}", live, arm, answered, self.live_status)
        yield self._record(f"copy-{self.number}", self.copier or copier, "shadow", copied,
                           self.copy_status, 30)  # fmt: skip

    def _record(
        self, name: str, version: int, arm: ArmName, answer: int | None, status: int, late: int = 0
    ) -> PredictionRecord:
        return PredictionRecord(
            name, "m", version, "d" * 64, "r", arm, self.lineage, self.generation, 1,
            self.at_us + late, 5, 1, status, unit_sha256=self.unit,
            classes=None if answer is None else (answer,), cached=0 if late else self.cached,
            shadows=f"live-{self.number}" if late else None,
        )  # fmt: skip


def _stretch(start_us: int = ORIGIN, end_us: int = END) -> Stretch:
    return Stretch("m", CANDIDATE, STABLE, "r1", ORIGIN, LENGTH, start_us, end_us)


Told = Callable[[Iterable[Pair]], ArmStore]


@pytest.fixture
def told(engine: Engine) -> Told:
    """Writes pairs and their labels down."""

    def told(pairs: Iterable[Pair]) -> ArmStore:
        pairs = list(pairs)
        FactStore(engine).ingest([record for pair in pairs for record in pair.records], 1)
        labels = [(f"live-{p.number}", [p.label]) for p in pairs if p.label is not None]
        LabelStore(engine).add(labels, "ada", 5)
        return ArmStore(engine)

    return told


def _some(count: int) -> list[Pair]:
    """Pairs of all sorts, also such that say nothing."""
    dice = random.Random(11)
    return [
        Pair(
            n, ORIGIN - LENGTH + n * (COUNT + 2) * LENGTH // count,
            dice.choice([None, *"abcdefghijklmnop"]), dice.random() < 0.3,
            dice.choice([0, 0, 0, 1, None]), dice.choice([0, 0, 0, 1, 1, None]),
            dice.choice([None, 0, 0, 0, 1, 2]), dice.choice([1, 2]),
            dice.choice([200] * 9 + [500]), dice.choice([200] * 9 + [500]),
            int(dice.random() < 0.1), dice.choice(["r1"] * 9 + ["old"]),
            dice.choice([None] * 9 + [SIBLING]),
        )
        for n in range(count)
    ]  # fmt: skip


def _unit(pair: Pair) -> str:
    return pair.unit or f"live-{pair.number}"


def test_a_unit_differs_or_not_with_its_first_pair(told: Told) -> None:
    """SQL counts as plain loops do; answers of others, failed or without classes are no pairs."""
    pairs = _some(600)
    seen: set[str] = set()
    expected: dict[Key, list[int]] = {}
    for pair in pairs:
        if pair.counts and _unit(pair) not in seen:
            seen.add(_unit(pair))
            cell = expected.setdefault(pair.key, [0, 0])
            cell[0] += 1
            cell[1] += pair.candidate != pair.stable
    found = told(pairs).intervals(DIFFER, _stretch()).found
    assert found == {key: Interval(n, x, 0, 0) for key, (n, x) in expected.items()}
    assert sum(x for _, x in expected.values()) > 5


def test_a_unit_is_graded_until_one_alone_is_wrong(told: Told) -> None:
    """By labels of the live answer, whichever was live; later intervals can be asked alone."""
    pairs = _some(600)
    hit: dict[str, int] = {}
    cells: dict[Key, tuple[set[str], set[str], set[str]]] = {}
    for pair in pairs:
        start, unit = pair.key[1], _unit(pair)
        if not pair.counts or pair.label is None or hit.get(unit, start) < start:
            continue
        active, candidate, stable = cells.setdefault(pair.key, (set(), set(), set()))
        active.add(unit)
        wrong = pair.candidate != pair.label, pair.stable != pair.label
        if wrong[0] != wrong[1] and unit not in hit:
            hit[unit] = start
            (candidate if wrong[0] else stable).add(unit)
    expected = {
        key: Interval(len(n), len(c), len(n), len(s)) for key, (n, c, s) in cells.items()
    }  # fmt: skip
    arms = told(pairs)
    assert arms.intervals(PAIRED, _stretch()).found == expected
    later = {key: row for key, row in expected.items() if key[1] >= ORIGIN + 2 * LENGTH}
    assert later and arms.intervals(PAIRED, _stretch(ORIGIN + 2 * LENGTH)).found == later
    assert {row.n_canary == row.n_stable for row in expected.values()} == {True}


def test_a_user_who_always_breaks_one_of_them_counts_once(told: Told) -> None:
    """A thousand times the same quarrel is one."""
    pairs = [Pair(n, ORIGIN + n, "ada", True, 1, 0, 0) for n in range(50)]
    pairs += [Pair(n, ORIGIN + n, f"u{n}", True, 0, 0, 0) for n in range(50, 53)]
    arms = told(pairs)
    assert arms.intervals(PAIRED, _stretch()).found == {(1, ORIGIN): Interval(4, 1, 4, 0)}
    assert arms.intervals(DIFFER, _stretch()).found == {(1, ORIGIN): Interval(4, 1, 0, 0)}


def test_copies_that_fail_are_the_candidate_s_failures(told: Told) -> None:
    """In a row with what it answers live; copies that another version answered are not its."""
    pairs = [Pair(n, ORIGIN + n, f"u{n % 3}", False, 0, 0, copy_status=200 if n < 4 else 500)
             for n in range(9)]  # fmt: skip
    pairs += [Pair(n, ORIGIN + 9, "u", True, 0, 0, copy_status=500) for n in range(9, 11)]
    pairs += [Pair(n, ORIGIN + 9, "u", False, 0, 0, copier=SIBLING) for n in range(11, 14)]
    arms = told(pairs)
    assert arms.failures_in_a_row(_stretch(end_us=ORIGIN + 9)) == (0, 0)
    assert arms.failures_in_a_row(_stretch()) == (5, 3)
