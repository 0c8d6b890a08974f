"""Requests a minute of one API key, counted as HAProxy counts them: by minutes of the clock."""

import time
from collections import Counter
from collections.abc import Mapping
from hashlib import sha256
from hmac import compare_digest

from steelyard.domain.api_key import split
from steelyard_serving.python_edge.addresses import Address
from steelyard_serving.python_edge.said import Said, refusal, scoring_refusal
from steelyard_serving.python_edge.table import Table


class Limits:
    """The counts of this minute, in memory: a restarted edge begins at 0."""

    def __init__(self) -> None:
        self._minute = 0
        self._counts: Counter[str] = Counter()

    def over(self, address: Address, headers: Mapping[str, str], table: Table) -> Said | None:
        """Count a prediction that shows a key with a limit; the refusal when it is beyond it.

        Only a right secret is counted: nobody uses up another's minute by its id.
        """
        key = split(shown(headers)) if address.infers else None
        limit = table.limit(key[0]) if key else None
        if key is None or limit is None:
            return None
        most, digest = limit
        if not compare_digest(sha256(key[1].encode()).hexdigest().upper(), digest):
            return None
        now = int(time.time())
        if self._count(key[0], now // 60) <= most:
            return None
        why, wait = f"this key may send {most} requests a minute", str(60 - now % 60)
        if address.v2:
            return refusal(429, why, {"retry-after": wait})
        return scoring_refusal(429, "REQUEST_LIMIT_EXCEEDED", why, {"retry-after": wait})

    def _count(self, key_id: str, minute: int) -> int:
        if minute != self._minute:
            self._minute, self._counts = minute, Counter()
        self._counts[key_id] += 1
        return self._counts[key_id]


def shown(headers: Mapping[str, str]) -> str:
    """What a request shows as a key, in ``X-Api-Key`` or else as a bearer's token.

    >>> shown({"authorization": "bearer a", "x-api-key": "b"}), shown({"authorization": "Bearer a"})
    ('b', 'a')
    """
    if "x-api-key" in headers:
        return headers["x-api-key"]
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
