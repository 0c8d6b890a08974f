"""How our own requests to a replica prove that they are ours: probes and shadows' copies.

Such a request needs no key of a client's and is charged to no budget. The edge takes every
``x-steelyard-`` header from what comes from outside; the mark keeps others on this machine, who
can reach the replicas' loopback ports, from asking under our name.
"""

import hmac
from collections.abc import Mapping

from steelyard.settings import Settings
from steelyard_serving.secret_files import serving_key

INTERNAL = "x-steelyard-internal"


def mark(settings: Settings) -> str:
    """What ``INTERNAL`` says on a request of ours: only who may read the serving key can tell."""
    return hmac.digest(serving_key(settings), b"steelyard internal request", "sha256").hex()


def is_internal(headers: Mapping[str, str], expected: str) -> bool:
    """Whether a request wears the mark; takes the same time for every wrong one."""
    given = headers.get(INTERNAL)
    return given is not None and hmac.compare_digest(given.encode("latin-1"), expected.encode())
