"""Who may ask: the key that came with a request, against the snapshot; pure.

No verified secret is remembered: a look at one costs about 4 microseconds (measured; the digest
is 1 of them), and what is not kept can neither leak nor outlive its revocation.
"""

from steelyard.domain.api_key import ApiKey, split
from steelyard.domain.errors import SteelyardError
from steelyard.domain.serving_snapshot import Snapshot
from steelyard_serving.protocols.protocol import Headers

MARK = "sy_"
"""How our keys begin; other credentials are somebody else's and are not looked at."""
_BEARER = "bearer "
_NONE_KNOWN = "This needs a key that is known and valid."


class Denied(SteelyardError):
    """A request that is not answered for who sent it, or for how much was asked before.

    ``status`` is the HTTP status of the answer, ``retry_after_s`` when to try again, in whole
    seconds; None: there is no use in it.
    """

    def __init__(self, status: int, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """What the answer says beside its body."""
        if self.status == 401:
            return {"www-authenticate": "Bearer"}
        return {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}


def admit(snapshot: Snapshot, headers: Headers, model: str, now_us: int) -> ApiKey | None:
    """The key of a request, if it may ask this model; None: none came, and none is needed.

    A key that comes is checked even where none is needed. ``X-Api-Key`` goes before
    ``Authorization: Bearer``.

    Raises:
        Denied: 401 for a key that is missing, unknown, expired or revoked, all with the same
            message; 403 for one that is not for this model.
    """
    text = _sent(headers)
    if text is None:
        if snapshot.require_keys:
            raise Denied(401, _NONE_KNOWN)
        return None
    key = _known(snapshot, text)
    if key is None or not key.is_live(now_us):
        raise Denied(401, _NONE_KNOWN)
    if not key.may_ask(model):
        raise Denied(403, f"This key is not for {model}.")
    return key


def _sent(headers: Headers) -> str | None:
    """The text of a key of ours in the headers."""
    text = headers.get("x-api-key", "")
    if text.startswith(MARK):
        return text
    credentials = headers.get("authorization", "")
    if credentials[: len(_BEARER)].lower() == _BEARER:
        text = credentials[len(_BEARER) :].strip()
        if text.startswith(MARK):
            return text
    return None


def _known(snapshot: Snapshot, text: str) -> ApiKey | None:
    parts = split(text)
    if parts is None:
        return None
    key = snapshot.keys.get(parts[0])
    return key if key is not None and key.opens(parts[1]) else None
