"""Whatever people, faults and clocks do to rollouts, in any order, some things always hold.

``ROLLOUT_EXAMPLES=2000`` looks at ten times as many histories.
"""

import os
from contextlib import suppress
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from steelyard.domain.candidates import apart
from steelyard.domain.deployment import desired_versions
from steelyard.domain.errors import Conflict, NotFound
from steelyard.domain.rollout import OPEN, Rollout
from steelyard.domain.rollout_plan import Plan, Step, default_metrics
from steelyard.domain.rollout_verbs import VERBS, Verb
from steelyard.domain.traffic import BUCKETS, Route
from steelyard.ports.applications import ApplicationPhase, ApplicationState
from steelyard.services.explanations import Explanations

from .conftest import Delivery, MovingClock, put_back

EXAMPLES = int(os.environ.get("ROLLOUT_EXAMPLES", "200"))
STEPS = (Step(1_000, 20.0, 20), Step(5_000, 20.0, 20), Step(BUCKETS))
PLAIN = Plan(STEPS, default_metrics(), interval_s=10.0, label_maturity_s=0.0, ready_within_s=120.0)
ASKING = replace(
    PLAIN, steps=(STEPS[0], replace(STEPS[1], approval=True), STEPS[2]), probation_s=60.0,
    approval_timeout_s=300.0,
)  # fmt: skip
HASTY = replace(PLAIN, deadline_s=200.0, inconclusive_limit=2, on_inconclusive="abort")
AT_ONCE = Plan((Step(BUCKETS),), ())
VERSIONS = (1, 2, 4)
COMPARED = [replace(PLAIN, winner="errors"), replace(ASKING, winner="errors"), PLAIN, HASTY]
PLANS = [PLAIN, ASKING, HASTY, AT_ONCE]


class Histories(RuleBasedStateMachine):
    """One model of three versions, its controller and its users, on a database of its own."""

    def __init__(self, ledger: Path, path: Path) -> None:
        super().__init__()
        put_back(ledger, path)
        self.path = path
        self.clock = MovingClock()
        self.delivery = Delivery(path, self.clock)
        self.generation = 0
        self.answered: set[int] = {1}
        self.checked: dict[str, int] = {}

    def teardown(self) -> None:
        """The chains hold to the end."""
        assert self.delivery.store.first_break() is None

    def _open(self) -> list[Rollout]:
        return [stored.rollout for stored in self.delivery.store.open_rollouts("m")]

    def _route(self) -> Route:
        route = self.delivery.store.route("m")
        assert route is not None
        return route

    @rule(plan=st.sampled_from(PLANS))
    def start(self, plan: Plan) -> None:
        """Somebody rolls out the version that does not serve."""
        stable = self.delivery.rollouts.stable("m")
        with suppress(Conflict):
            self.delivery.rollouts.start("m", 2 if stable == 1 else 1, plan, "ada")

    @rule(plan=st.sampled_from(COMPARED))
    def compare(self, plan: Plan) -> None:
        """Somebody rolls out both versions that do not serve."""
        stable = self.delivery.rollouts.stable("m")
        others = [version for version in VERSIONS if version != stable]
        with suppress(Conflict):
            self.delivery.rollouts.start_together("m", others, plan, "ada")

    @rule(verb=st.sampled_from(VERBS), version=st.sampled_from([None, *VERSIONS]))
    def act(self, verb: Verb, version: int | None) -> None:
        """Somebody tries a verb, which fits or is refused."""
        with suppress(Conflict, NotFound):
            self.delivery.rollouts.act("m", verb, "ada", version=version)

    @rule()
    def rollback(self) -> None:
        """Somebody wants the last good version."""
        with suppress(Conflict):
            self.delivery.rollouts.rollback("m", "ada", "odd")

    @rule(version=st.sampled_from([None, *VERSIONS]))
    def retry(self, version: int | None) -> None:
        """Somebody tries an aborted one again, perhaps beside others."""
        with suppress(Conflict, NotFound):
            self.delivery.rollouts.retry("m", "ada", version=version)

    @rule(turns=st.integers(1, 3), confirm=st.sampled_from([True, True, True, False]))
    def turn(self, turns: int, confirm: bool) -> None:
        """The controller looks, with an edge that obeys or does not answer."""
        for _ in range(turns):
            self._turn(confirm, "ready")

    @rule(phase=st.sampled_from(["starting", "unhealthy", "failed"]), confirm=st.booleans())
    def turn_while_sick(self, phase: ApplicationPhase, confirm: bool) -> None:
        """The controller looks while the candidate is not well."""
        self._turn(confirm, phase)

    def _turn(self, confirm: bool, phase: ApplicationPhase) -> None:
        delivery, opened = self.delivery, self._open()
        delivery.rollouts.complete_promotions(delivery.token)
        if not opened:
            return
        states = {("m", n): ApplicationState("ready") for n in VERSIONS}
        states["m", opened[0].candidate] = ApplicationState(phase, "as told")
        self.answered |= {one.candidate for one in opened[1:]}
        if phase == "ready":
            self.answered.add(opened[0].candidate)
        assert len(delivery.rollouts.turns.all(states, 0, delivery.token)) == len(opened)
        if confirm:
            delivery.rollouts.confirm("m", self._route().generation, delivery.token)

    @rule()
    def restart(self) -> None:
        """The controller is killed between two turns; another one opens the same database."""
        self.delivery = Delivery(self.path, self.clock)

    @rule(seconds=st.sampled_from([1, 11, 21, 61, 130, 301, -3_600, 3_600]))
    def wait(self, seconds: int) -> None:
        """Time passes, or the clock is set to another hour."""
        self.clock.wait(seconds)

    @rule(
        canary=st.integers(0, 60), stable=st.integers(0, 60),
        failing=st.sampled_from(["nobody", "nobody", "canary", "both"]),
    )  # fmt: skip
    def traffic(self, canary: int, stable: int, failing: str) -> None:
        """Users ask both versions; nobody's answer fails, the canary's, or everybody's."""
        for rollout in self._open():
            if 0 < rollout.weight_bp < BUCKETS:
                self.delivery.ask("canary", canary, 0 if failing == "nobody" else canary,
                                  rollout=rollout)  # fmt: skip
                self.delivery.ask("stable", stable, stable if failing == "both" else 0,
                                  rollout=rollout)  # fmt: skip

    @invariant()
    def traffic_goes_where_somebody_answers(self) -> None:
        """Weights are shares; who has traffic was ready and is kept running."""
        route, store = self._route(), self.delivery.store
        taking = {share.version for share in route.shares}
        if route.stable_bp:
            taking.add(route.stable)
        assert taking <= self.answered
        rollouts = [stored.rollout for stored in store.rollouts("m")]
        stable = self.delivery.rollouts.stable("m")
        wanted = desired_versions("m", stable, rollouts, self.clock.at_us).versions
        assert taking <= set(wanted)

    @invariant()
    def tables_are_numbered_upwards(self) -> None:
        """No table is ever used again, and the newest one holds what open rollouts are at."""
        generation = self._route().generation
        assert generation >= self.generation
        self.generation = generation
        shares = {share.version: share.weight_bp for share in self._route().shares}
        opened = [rollout for rollout in self._open() if rollout.generation]
        for rollout in opened:
            assert rollout.generation <= generation
            if rollout.stable is not None:
                assert rollout.weight_bp == shares.pop(rollout.candidate, 0)
        assert not opened or not shares

    @invariant()
    def one_group_is_open(self) -> None:
        """At most, in regions apart from each other; every other one has an end."""
        rollouts = [stored.rollout for stored in self.delivery.store.rollouts("m")]
        opened = [rollout for rollout in rollouts if rollout.condition in OPEN]
        assert len({rollout.lineage for rollout in opened}) <= 1
        assert len([rollout for rollout in opened if rollout.weight_bp == BUCKETS]) <= 1
        assert all(apart(one, other) for one, other in combinations(opened, 2))
        assert all((r.ended_us is None) == r.is_open for r in rollouts)

    @invariant()
    def what_was_promoted_was_healthy(self) -> None:
        """Once each, and by nothing else."""
        store = self.delivery.store
        healthy = {s.rollout.rollout_id for s in store.rollouts("m")
                   if s.rollout.condition == "healthy"}  # fmt: skip
        promoted = [promotion.rollout_id for promotion in store.promotions("m")]
        assert sorted(promoted) == sorted(healthy)

    @invariant()
    def every_decision_holds(self) -> None:
        """Decided again on what was known, each event of the controller comes out the same."""
        store = self.delivery.store
        for stored in store.rollouts("m", limit=4):
            rollout = stored.rollout
            decisions = Explanations(store).of(rollout)
            new = decisions[self.checked.get(rollout.rollout_id, 0) :]
            self.checked[rollout.rollout_id] = len(decisions)
            for decision in new:
                by_controller = decision.event["verb"] == "advance"
                assert decision.holds is (True if by_controller else None), decision


@pytest.mark.timeout(3_600)
def test_no_history_breaks_a_rollout(served_ledger: Path, tmp_path: Path) -> None:
    """Verbs, restarts, a silent edge, sick versions, set clocks and errors in any order."""

    class Here(Histories):
        """On this test's own database."""

        def __init__(self) -> None:
            super().__init__(served_ledger, tmp_path / "ledger.db")

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=20, deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
