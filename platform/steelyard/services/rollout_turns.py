"""The controller's turns: look at what is known, ask the pure rule, write what should be."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from steelyard.domain.advance import advance
from steelyard.domain.analysis import Verdict
from steelyard.domain.decision import told
from steelyard.domain.promotion import Change
from steelyard.domain.proof import rival
from steelyard.domain.rollout import Evidence, Rollout
from steelyard.domain.rollout_record import Move, Stored
from steelyard.ports.applications import ApplicationState
from steelyard.services.promotions import Promotions
from steelyard.services.rollout_evidence import Evidences
from steelyard.services.rollout_moves import write

if TYPE_CHECKING:
    from steelyard.adapters.sql.rollouts import RolloutStore
    from steelyard.ports.clock import Clock

WAITS = Change("controller", "wait")
"""No change of course, so no event of it is kept."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one reconcile turn saw and decided, for the controller's log and the tests."""

    before: Rollout
    after: Rollout
    verdicts: tuple[Verdict, ...]


def raised(model: str, error: Exception) -> None:
    """Let nobody else have a turn."""
    raise error


class Turns:
    """What the controller does to open rollouts, again and again."""

    def __init__(
        self, store: "RolloutStore", evidences: Evidences, promotions: Promotions, clock: "Clock"
    ) -> None:
        self._store = store
        self._evidences = evidences
        self._promotions = promotions
        self._clock = clock

    def all(
        self,
        states: Mapping[tuple[str, int], ApplicationState],
        settle_us: int,
        token: int,
        failed: Callable[[str, Exception], None] = raised,
    ) -> tuple[Turn, ...]:
        """One controller turn for the open rollouts of all models, one a candidate.

        What can be is asked for all of them at once. ``settle_us`` is how long facts may take to
        arrive before an interval counts as complete. ``failed`` is told of a model whose rollouts
        had no turn; those of others have theirs all the same.

        Raises:
            Conflict: another controller took over; unless ``failed`` does something else, a person
                changed something meanwhile.
        """
        opened = self._store.all_open()
        now = self._clock.now_us()
        compared = [one.rollout for one in opened if _is_compared(one.rollout)]
        self._evidences.look(compared, now, settle_us, token)
        turns: list[Turn] = []
        waiting: list[Move] = []
        for model, some in groupby(sorted(opened, key=_place), key=lambda one: one.rollout.model):
            try:
                turns += self._advanced(list(some), states, token, waiting)
            except Exception as error:
                failed(model, error)
        self._store.tell(waiting, token)
        return tuple(turns)

    def _advanced(
        self, seen: Sequence[Stored], states: Mapping[tuple[str, int], ApplicationState],
        token: int, waiting: list[Move],
    ) -> list[Turn]:  # fmt: skip
        """What the open rollouts of one model become; those that only wait go to ``waiting``."""
        now = self._clock.now_us()
        known = self._known([one.rollout for one in seen], states, now, token)
        befores = {one.rollout.rollout_id: one.rollout for one in seen}
        afters = {name: advance(befores[name], known[name], now) for name in befores}
        if any(_does_more_than_wait(befores[name], after) for name, after in afters.items()):
            changes = {
                name: Change("controller", "advance", told(befores[name], known[name]))
                for name, after in afters.items() if after != befores[name]
            }  # fmt: skip
            written = write(self._store, seen, afters, changes, "controller", now, token)
            afters = {one.rollout_id: one for one in written}
        else:
            moves = [Move(one, afters[one.rollout.rollout_id], WAITS) for one in seen]
            waiting += [move for move in moves if move.after != move.before.rollout]
        for after in afters.values():
            if after.condition == "healthy":
                self._promotions.record(after, token)
        return [Turn(befores[name], afters[name], known[name].verdicts) for name in befores]

    def _known(
        self, rollouts: Sequence[Rollout], states: Mapping[tuple[str, int], ApplicationState],
        now_us: int, token: int,
    ) -> dict[str, Evidence]:  # fmt: skip
        """What is known of each candidate, and of the others as far as it matters to it."""
        own = {one.rollout_id: self._evidence(one, states, token) for one in rollouts}
        if len(own) == 1:
            return own
        rivals = {
            one.rollout_id: rival(one, own[one.rollout_id], now_us)
            for one in rollouts if one.condition != "aborting"
        }  # fmt: skip
        return {
            name: replace(evidence, rivals=tuple(r for of, r in rivals.items() if of != name))
            for name, evidence in own.items()
        }

    def _evidence(
        self, rollout: Rollout, states: Mapping[tuple[str, int], ApplicationState], token: int
    ) -> Evidence:
        state = states.get((rollout.model, rollout.candidate), ApplicationState("starting"))
        if not _is_compared(rollout):
            return Evidence(state.phase, state.reason)
        return self._evidences.of(rollout, state, self._clock.now_us(), token)


def _is_compared(rollout: Rollout) -> bool:
    """Whether it has been given traffic beside stable, so that its answers say something."""
    return rollout.kind == "canary" and rollout.step >= 0


def _does_more_than_wait(before: Rollout, after: Rollout) -> bool:
    return replace(before, reason=after.reason) != after


def _place(stored: Stored) -> tuple[str, int]:
    return stored.rollout.model, stored.rollout.candidate
