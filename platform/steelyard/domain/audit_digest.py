"""Keyed digests of what clients sent and got: without the key nobody finds them by guessing."""

import hmac
from hashlib import sha256

KEY_FILE = "audit.key"
"""The key's file among the installation's secrets, in hexadecimal."""
BLOCK = 64
"""Bytes that SHA-256 takes at once, to which HMAC (RFC 2104) fills up the key."""


def digest_method(key: bytes) -> str:
    """The name of the digests made with a key; it tells keys apart and says nothing about them."""
    return f"hmac-sha256:{sha256(b'steelyard audit key ' + key).hexdigest()[:16]}"


class KeyedDigest:
    """HMAC-SHA-256 with one key, of at most 64 bytes.

    A replica needs three for each request. The library's own takes up the key every time, which is
    four times the work for a short text; here both states that follow from the key are kept.

    >>> KeyedDigest(b"k")(b"data") == hmac.digest(b"k", b"data", "sha256").hex()
    True
    """

    def __init__(self, key: bytes) -> None:
        padded = key.ljust(BLOCK, b"\0")
        self.method = digest_method(key)
        self._inner = sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in padded))

    def __call__(self, data: bytes) -> str:
        """The digest in hexadecimal."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(data)
        outer.update(inner.digest())
        return outer.hexdigest()


def is_digest_of(data: bytes, digest: str, method: str | None, key: bytes | None) -> bool | None:
    """Whether data has a recorded digest; None when it was made with another key than this.

    >>> is_digest_of(b"{}", sha256(b"{}").hexdigest(), None, None)
    True
    """
    if method is None:
        return hmac.compare_digest(sha256(data).hexdigest(), digest)
    if key is None or method != digest_method(key):
        return None
    return hmac.compare_digest(KeyedDigest(key)(data), digest)
