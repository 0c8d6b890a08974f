"""Which version answers: sticky nested hash buckets.

The edge computes the same integers in C (HAProxy's ``hmac`` converter), so batch code and tests
can say where a unit lands without asking the edge.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from steelyard.domain.audit import ArmName

BUCKETS = 10_000
MOST_CANDIDATES = 4
"""Beside stable; the edge looks at so many shares."""


@dataclass(frozen=True, slots=True)
class Share:
    """A candidate's buckets: from ``offset_bp`` on, ``weight_bp`` of the 10,000."""

    version: int
    offset_bp: int
    weight_bp: int

    @property
    def end_bp(self) -> int:
        """The first bucket past it."""
        return self.offset_bp + self.weight_bp


@dataclass(frozen=True, slots=True)
class Route:
    """The weight table of one model, applied as one atomic value.

    The buckets of ``shares`` go to their candidates, the rest to ``stable``; shares are in the
    order of their buckets and none overlaps another. ``lineage`` salts the hash: retries of a
    rollout keep their cohort, the next rollout draws another. ``generation`` only grows, so counts
    under two tables never mix.
    """

    model: str
    stable: int
    generation: int
    shares: tuple[Share, ...] = ()
    lineage: str = "-"

    def __post_init__(self) -> None:
        if len(self.shares) > MOST_CANDIDATES:
            raise ValueError(f"at most {MOST_CANDIDATES} shares, found {len(self.shares)}")
        taken = 0
        for share in self.shares:
            if share.weight_bp <= 0 or not taken <= share.offset_bp <= BUCKETS - share.weight_bp:
                raise ValueError(f"shares are of own buckets in 0..{BUCKETS}, found {self.shares}")
            taken = share.end_bp

    @property
    def stable_bp(self) -> int:
        """The buckets that no candidate has."""
        return BUCKETS - sum(share.weight_bp for share in self.shares)


def in_order(shares: Sequence[Share]) -> tuple[Share, ...]:
    """Shares as a route holds them: those that have buckets, by their first one."""
    return tuple(sorted((s for s in shares if s.weight_bp), key=lambda share: share.offset_bp))


def bucket(secret: bytes, lineage: str, unit: str) -> int:
    """The bucket of a unit in [0, 10000): HMAC-SHA-256, first four bytes, big-endian.

    A unit that is not UTF-8 comes with its odd bytes escaped (``surrogateescape``).

    >>> bucket(b"secret", "r1", "alice") == bucket(b"secret", "r1", "alice")
    True
    """
    digest = hmac.digest(secret, f"{lineage}|{unit}".encode(errors="surrogateescape"), "sha256")
    return int.from_bytes(digest[:4], "big") % BUCKETS


def choose(route: Route, position: int) -> tuple[ArmName, int]:
    """The arm and version for a bucket: each candidate grows from its own first bucket on.

    >>> route = Route("m", 1, 1, (Share(2, 0, 500), Share(3, 5_000, 100)))
    >>> [choose(route, position) for position in (499, 500, 5_099)]
    [('canary', 2), ('stable', 1), ('canary', 3)]
    """
    for share in route.shares:
        if share.offset_bp <= position < share.end_bp:
            return "canary", share.version
    return "stable", route.stable
