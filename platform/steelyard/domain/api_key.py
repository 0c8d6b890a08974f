"""Keys for inference: who asks, what it may ask, how much, and how much it is told.

A key reads ``sy_<key id>_<secret>``. The secret is 256 random bits, so a plain SHA-256 of it keeps
it as well as a slow hash would: there is nothing to guess. Only the digest is stored.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Literal

TEXT = re.compile(r"sy_(?P<key_id>[a-z0-9]{10})_(?P<secret>[A-Za-z0-9_-]{43})")
Told = Literal["all", "label", "top"]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as the platform knows it; times in microseconds since 1970, None where there is none.

    ``models``: those it may ask; empty is every model. ``requests_per_minute`` is a rate, and
    ``items_per_day`` a budget of rows for each model and day (UTC); 0 is no limit. ``told`` is what
    classifiers' answers are cut to: everything, the label alone, or the ``top`` scores.
    """

    key_id: str
    name: str
    secret_sha256: str
    created_us: int
    models: tuple[str, ...] = ()
    expires_us: int | None = None
    revoked_us: int | None = None
    requests_per_minute: int = 0
    items_per_day: int = 0
    told: Told = "all"
    top: int = 3

    def opens(self, secret: str) -> bool:
        """Whether this is the secret; takes the same time for every wrong one."""
        found = hashlib.sha256(secret.encode()).hexdigest()
        return hmac.compare_digest(found, self.secret_sha256)

    def is_live(self, now_us: int) -> bool:
        """Whether it is neither revoked nor expired."""
        expired = self.expires_us is not None and now_us >= self.expires_us
        return self.revoked_us is None and not expired

    def may_ask(self, model: str) -> bool:
        """Whether it is for this model."""
        return not self.models or model in self.models


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key and who made it; ``revoked_by`` and ``reason`` are None while nobody took it back."""

    key: ApiKey
    created_by: str
    revoked_by: str | None = None
    reason: str | None = None


def split(text: str) -> tuple[str, str] | None:
    """Key id and secret of what somebody sent; None when it has not a key's form.

    >>> split("sy_0123456789_" + "s" * 43)[0]
    '0123456789'
    """
    match = TEXT.fullmatch(text)
    return (match["key_id"], match["secret"]) if match else None
