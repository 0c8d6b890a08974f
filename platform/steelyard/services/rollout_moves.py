"""Which rollouts of a model are meant, and writing what they become as one change."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from steelyard.domain.candidates import moved, new_table, settled
from steelyard.domain.errors import Conflict, NotFound
from steelyard.domain.promotion import Change
from steelyard.domain.rollout import Rollout
from steelyard.domain.rollout_record import Move, Stored

if TYPE_CHECKING:
    from steelyard.adapters.sql.rollouts import RolloutStore

CHOOSE = "choose"
"""The verb by which a candidate ends because another one was chosen."""


def write(
    store: "RolloutStore", seen: Sequence[Stored], afters: Mapping[str, Rollout],
    changes: Mapping[str, Change], actor: str, now_us: int, token: int | None = None,
) -> list[Rollout]:  # fmt: skip
    """Write what the open rollouts of a model become, and their table, as one change."""
    befores = [one.rollout for one in seen]
    wanted = settled([afters.get(one.rollout_id, one) for one in befores], now_us)
    moves = [
        Move(one, after, changes[after.rollout_id] if after == afters.get(after.rollout_id)
             else Change(actor, CHOOSE))
        for one, after in zip(seen, wanted, strict=True) if after != one.rollout
    ]  # fmt: skip
    route = None
    if any(moved(move.before.rollout, move.after) for move in moves):
        route = new_table(wanted, store.route(befores[0].model))
    stored = store.move(moves, now_us, seen=seen, route=route, token=token)
    saved = {one.rollout.rollout_id: one.rollout for one in stored}
    return [saved.get(one.rollout_id, one) for one in befores]


def opened(found: Sequence[Stored]) -> list[Stored]:
    """Those that still move or wait, by the version of their candidate."""
    return sorted((one for one in found if one.rollout.is_open), key=_candidate)


def _candidate(stored: Stored) -> int:
    return stored.rollout.candidate


def meant(model: str, version: int | None, found: Sequence[Stored]) -> Stored:
    """The rollout that a person means: the open one, or the newest.

    Raises:
        NotFound: there is none, or none of that version.
        Conflict: several are open and nobody says which.
    """
    if not found:
        raise NotFound(
            f"{model} was never deployed or rolled out.", f"First: steelyard deploy {model}/1."
        )
    if version is not None:
        of_version = [one for one in found if one.rollout.candidate == version]
        if not of_version:
            raise NotFound(
                f"{model}/{version} was never rolled out.",
                f"See: steelyard rollout history {model}.",
            )
        return of_version[0]
    versions = [str(one.rollout.candidate) for one in found if one.rollout.is_open]
    if len(versions) > 1:
        raise Conflict(
            f"{model} has several open rollouts, of versions {', '.join(sorted(versions))}.",
            "Say which one: --version N.",
        )
    return found[0]
