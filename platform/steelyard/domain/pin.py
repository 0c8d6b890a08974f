"""An operator's pin: a header that sends a request to one version for a while.

Whoever has the operators' key can make one, and nobody else; the edge checks it by the same key.
"""

import hmac
import re
from dataclasses import dataclass

PIN_HEADER = "x-steelyard-pin"
PIN_KEY_FILE = "pin.key"
"""The key's file among the installation's secrets, in hexadecimal."""
PIN = re.compile(r"(?P<version>[0-9]{1,9})\.(?P<until>[0-9]{10})\.(?P<mac>[0-9a-f]{64})")
LONGEST_S = 86_400


@dataclass(frozen=True, slots=True)
class Pin:
    """A version of a model, until a moment (whole seconds since 1970, that one excluded)."""

    model: str
    version: int
    until_s: int

    def sealed(self, key: bytes) -> str:
        """The header's value: version, moment and their HMAC-SHA-256 with the model's name."""
        signed = f"{self.model}/{self.version}/{self.until_s}"
        mac = hmac.digest(key, signed.encode(), "sha256").hex()
        return f"{self.version}.{self.until_s}.{mac}"


def pinned_version(text: str, model: str, key: bytes, now_s: int) -> int | None:
    """The version that a header's value pins a request to; None: not valid, or not any more.

    >>> pinned_version(Pin("m", 2, 1_900_000_000).sealed(b"k"), "m", b"k", 1_800_000_000)
    2
    """
    match = PIN.fullmatch(text)
    if match is None:
        return None
    pin = Pin(model, int(match["version"]), int(match["until"]))
    right = hmac.compare_digest(text, pin.sealed(key))
    return pin.version if right and now_s < pin.until_s else None
