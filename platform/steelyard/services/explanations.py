"""Which evidence led to which decision of a rollout, and whether it would be decided so again."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steelyard.domain.decision import decided_again, retold
from steelyard.domain.errors import Conflict, NotFound
from steelyard.domain.replay import Replay, check_replay, replayed
from steelyard.domain.rollout import Evidence, Rollout
from steelyard.domain.rollout_plan import Plan

if TYPE_CHECKING:
    from steelyard.adapters.sql.rollouts import RolloutStore


@dataclass(frozen=True, slots=True)
class Decision:
    """One event of a rollout.

    ``evidence`` is what the controller knew, None for a person's verb. ``holds``: deciding again
    on it gives the same condition, weight, step and reason; None where nothing was decided.
    """

    event: dict[str, Any]
    evidence: Evidence | None
    holds: bool | None


class Explanations:
    """Reads the events of rollouts and decides again."""

    def __init__(self, store: "RolloutStore") -> None:
        self._store = store

    def of(self, rollout: Rollout, until_us: int | None = None) -> list[Decision]:
        """Every decision of a rollout until a moment, oldest first.

        Raises:
            NotFound: nothing had happened by then.
        """
        events = [
            event for event in self._store.events(rollout.rollout_id)
            if until_us is None or event["at_us"] <= until_us
        ]  # fmt: skip
        if not events:
            raise NotFound(
                f"Rollout {rollout.rollout_id} had not begun then.",
                "Ask for a later moment, or leave --at out.",
            )
        return [_decision(event, rollout) for event in events]

    def replay(self, rollout: Rollout, plan: Plan) -> Replay:
        """When another plan's metrics would have spoken, on what was kept of a rollout.

        Raises:
            InvalidInput: the plan counts other events than those that were kept.
            Conflict: nothing was kept: it took no traffic beside stable.
        """
        check_replay(plan, rollout.plan)
        rows = self._store.observations.in_order(rollout.rollout_id)
        if not rows:
            raise Conflict(
                f"No interval of rollout {rollout.rollout_id} was kept.",
                f"See what happened: steelyard rollout explain {rollout.model}.",
            )
        return replayed(plan, rows)


def _decision(event: dict[str, Any], rollout: Rollout) -> Decision:
    known = retold(event["evidence"], rollout.plan)
    after = decided_again(event["evidence"], rollout.plan, event["at_us"])
    if known is None or after is None:
        return Decision(event, None, None)
    decided = (after.condition, after.step, after.weight_bp, after.reason)
    kept = (event["to_condition"], event["step"], event["weight_bp"], event["reason"])
    return Decision(event, known[1], decided == kept)
