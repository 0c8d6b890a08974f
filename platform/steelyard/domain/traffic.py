"""Which version answers: sticky nested hash buckets.

The edge computes the same integers in C (HAProxy's ``hmac`` converter), so batch code and tests
can say where a unit lands without asking the edge.
"""

import hmac
from dataclasses import dataclass

from steelyard.domain.audit import ArmName

BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class Route:
    """The weight table of one model, applied as one atomic value.

    ``weight_bp`` of the 10,000 buckets go to ``canary``, the rest to ``stable``. ``lineage`` salts
    the hash: retries of a rollout keep their cohort, the next rollout draws another.
    ``generation`` only grows, so counts under two tables never mix.
    """

    model: str
    stable: int
    generation: int
    canary: int | None = None
    weight_bp: int = 0
    lineage: str = "-"

    def __post_init__(self) -> None:
        if not 0 <= self.weight_bp <= BUCKETS:
            raise ValueError(f"weight_bp is in 0..{BUCKETS}, found {self.weight_bp}")
        if self.weight_bp and self.canary is None:
            raise ValueError("a weight needs a canary")


def bucket(secret: bytes, lineage: str, unit: str) -> int:
    """The bucket of a unit in [0, 10000): HMAC-SHA-256, first four bytes, big-endian.

    >>> bucket(b"secret", "r1", "alice") == bucket(b"secret", "r1", "alice")
    True
    """
    digest = hmac.digest(secret, f"{lineage}|{unit}".encode(), "sha256")
    return int.from_bytes(digest[:4], "big") % BUCKETS


def choose(route: Route, position: int) -> tuple[ArmName, int]:
    """The arm and version for a bucket: low buckets go to the canary, so weights nest.

    >>> choose(Route("m", stable=1, generation=1, canary=2, weight_bp=500), 499)
    ('canary', 2)
    """
    if route.canary is not None and position < route.weight_bp:
        return "canary", route.canary
    return "stable", route.stable
