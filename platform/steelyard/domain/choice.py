"""Which of several proven candidates takes all traffic."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from steelyard.domain.rollout import Rival
from steelyard.domain.rollout_plan import ASK


@dataclass(frozen=True, slots=True)
class Claim:
    """What comes of a proven candidate's claim to all traffic, and why it does not get it yet."""

    verdict: Literal["take", "wait", "ask"]
    reason: str = ""


def claim(mine: Rival, rivals: Sequence[Rival], winner: str) -> Claim:
    """What a proven candidate does, given the others that are not out.

    ``winner`` names the metric whose observed rate or mean is the lowest in the best one; of equal
    ones the lower version is, and one of which nothing is known is the worst. ``ask``: a person
    says which.

    >>> claim(Rival(3, "proven", 0.01), [Rival(2, "proven", 0.02)], "errors").verdict
    'take'
    """
    chosen = [one.version for one in rivals if one.standing == "chosen"]
    if chosen:
        return Claim("wait", f"proven; version {chosen[0]} was chosen")
    undecided = [str(one.version) for one in rivals if one.standing == "undecided"]
    if undecided:
        return Claim("wait", f"proven; waits for version {', '.join(undecided)}")
    if not rivals:
        return Claim("take")
    proven = sorted((mine, *rivals), key=_rank)
    if winner == ASK:
        versions = ", ".join(str(number) for number in sorted(one.version for one in proven))
        return Claim("ask", f"versions {versions} are all proven: promote one of them --full")
    best = proven[0]
    if best == mine:
        return Claim("take")
    return Claim("wait", f"proven; version {best.version} has fewer or less by {winner}")


def _rank(one: Rival) -> tuple[bool, float, int]:
    return one.rate is None, one.rate or 0.0, one.version
