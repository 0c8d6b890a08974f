"""What replicas go by, in one signed document: policies, keys, whether a key is needed, shadows.

The controller writes it from SQL, so that no replica needs a database to answer. Whoever can
change the file but has not the secret cannot give himself a key.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

import orjson

from steelyard.domain.api_key import ApiKey
from steelyard.domain.errors import Refused
from steelyard.domain.serving_policy import ServingPolicy

SCHEMA = 2


@dataclass(frozen=True, slots=True)
class Shadow:
    """A version that gets a copy of a share of a model's requests after they were answered.

    ``of`` is the arm whose answers it repeats, ``share_bp`` the share of the buckets: of those
    the requests that this arm answers.
    """

    version: int
    share_bp: int
    of: Literal["stable", "canary"] = "stable"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one moment; the default is a platform where nothing was set."""

    require_keys: bool = False
    policies: Mapping[str, ServingPolicy] = field(default_factory=dict)
    keys: Mapping[str, ApiKey] = field(default_factory=dict)
    shadows: Mapping[str, tuple[Shadow, ...]] = field(default_factory=dict)

    def policy(self, model: str) -> ServingPolicy:
        """That of a model, or the defaults."""
        return self.policies.get(model, DEFAULT)


DEFAULT = ServingPolicy()


def sealed(snapshot: Snapshot, secret: bytes) -> bytes:
    """The document: a line of HMAC-SHA-256 in hexadecimal, and the JSON that it is of."""
    body = orjson.dumps({
        "schema": SCHEMA,
        "require_keys": snapshot.require_keys,
        "policies": {name: asdict(one) for name, one in sorted(snapshot.policies.items())},
        "keys": [asdict(one) for _, one in sorted(snapshot.keys.items())],
        "shadows": {
            name: [asdict(one) for one in some] for name, some in sorted(snapshot.shadows.items())
        },
    })  # fmt: skip
    return _mac(body, secret) + b"\n" + body


def opened(data: bytes, secret: bytes) -> Snapshot:
    """The snapshot in a document.

    Raises:
        Refused: it is not signed with this secret, or is of another schema.
    """
    mac, _, body = data.partition(b"\n")
    if not hmac.compare_digest(mac, _mac(body, secret)):
        raise Refused("The serving snapshot is not signed by this platform.")
    row = orjson.loads(body)
    if row["schema"] != SCHEMA:
        raise Refused(f"The serving snapshot has schema {row['schema']}, this reads {SCHEMA}.")
    keys = [ApiKey(**{**one, "models": tuple(one["models"])}) for one in row["keys"]]
    return Snapshot(
        row["require_keys"],
        {name: ServingPolicy(**one) for name, one in row["policies"].items()},
        {one.key_id: one for one in keys},
        {name: tuple(Shadow(**one) for one in some) for name, some in row["shadows"].items()},
    )


def _mac(body: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, body, hashlib.sha256).hex().encode()
