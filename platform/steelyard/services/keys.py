"""API keys: made, shown once, listed, revoked."""

import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, get_args

from steelyard.domain.api_key import ApiKey, KeyRecord, Told
from steelyard.domain.errors import Fault, InvalidInput, NotFound
from steelyard.services.known_models import check_models

if TYPE_CHECKING:
    from steelyard.adapters.sql.api_keys import ApiKeyStore
    from steelyard.ports.clock import Clock
    from steelyard.ports.registry import Registry

DAY_US = 86_400_000_000
LETTERS = string.ascii_lowercase + string.digits
LONGEST_NAME = 100
RANGES: Mapping[str, tuple[int, int]] = {
    "expires_days": (1, 3_650),
    "requests_per_minute": (0, 1_000_000),
    "items_per_day": (0, 10**12),
    "top": (1, 1_000),
}


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """A key as somebody wants it; see ``ApiKey``. ``expires_days`` None: it does not expire."""

    name: str
    models: tuple[str, ...] = ()
    expires_days: int | None = None
    requests_per_minute: int = 0
    items_per_day: int = 0
    told: str = "all"
    top: int = 3


class Keys:
    """The use cases of API keys."""

    def __init__(self, store: "ApiKeyStore", registry: "Registry", clock: "Clock") -> None:
        self._store = store
        self._registry = registry
        self._clock = clock

    def create(self, wanted: KeyRequest, actor: str) -> tuple[ApiKey, str]:
        """Make a key; with it its text, which is kept nowhere and cannot be had again.

        Raises:
            InvalidInput: a name, a limit or a choice that no key can have; every one is named.
            NotFound: a model that there is not.
        """
        told = _checked(wanted)
        if wanted.models:
            check_models(self._registry, *wanted.models)
        key_id = "".join(secrets.choice(LETTERS) for _ in range(10))
        secret = secrets.token_urlsafe(32)
        now = self._clock.now_us()
        days = wanted.expires_days
        key = ApiKey(
            key_id, wanted.name.strip(), sha256(secret.encode()).hexdigest(), now,
            tuple(sorted(set(wanted.models))), None if days is None else now + days * DAY_US,
            requests_per_minute=wanted.requests_per_minute, items_per_day=wanted.items_per_day,
            told=told, top=wanted.top,
        )  # fmt: skip
        self._store.add(key, actor)
        return key, f"sy_{key_id}_{secret}"

    def records(self) -> list[KeyRecord]:
        """Every key that there ever was, oldest first."""
        return self._store.records()

    def live(self) -> dict[str, ApiKey]:
        """Key id -> key, for those that are neither revoked nor expired."""
        now = self._clock.now_us()
        keys = (record.key for record in self._store.records())
        return {key.key_id: key for key in keys if key.is_live(now)}

    def revoke(self, key_id: str, actor: str, reason: str) -> KeyRecord:
        """Take a key back for good; a second time changes nothing.

        Raises:
            NotFound: there is no such key.
            InvalidInput: no reason is given.
        """
        if not reason.strip():
            fault = Fault("reason", "is empty")
            raise InvalidInput(str(fault), (fault,), "Say why: it stays on record.")
        record = self._store.revoke(key_id, actor, reason.strip(), self._clock.now_us())
        if record is None:
            # What was typed is not repeated: it may be a whole key, secret and all.
            raise NotFound("There is no key with this id.", "See: steelyard keys list.")
        return record


def _checked(wanted: KeyRequest) -> Told:
    faults = []
    name = wanted.name.strip()
    if not name or not name.isprintable() or len(name) > LONGEST_NAME:
        faults.append(Fault("name", f"is 1 to {LONGEST_NAME} printable characters"))
    for field, (least, most) in RANGES.items():
        value = getattr(wanted, field)
        if value is not None and not least <= value <= most:
            faults.append(Fault(field, f"is from {least} to {most}, not {value}"))
    told: Told = "all"
    if wanted.told in get_args(Told):
        told = wanted.told  # type: ignore[assignment]
    else:
        faults.append(Fault("told", f"is all, label or top, not {wanted.told!r}"))
    if faults:
        raise InvalidInput("The key is not usable.", tuple(faults))
    return told
