"""Serving policies and API keys in the database, on both."""

from dataclasses import replace
from threading import Thread

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from steelyard.adapters.sql.api_keys import ApiKeyStore
from steelyard.adapters.sql.serving_policies import ServingPolicyStore
from steelyard.domain.api_key import ApiKey, KeyRecord
from steelyard.domain.errors import InvalidInput
from steelyard.domain.serving_policy import ServingPolicy

pytestmark = pytest.mark.integration
KEY = ApiKey("abcdefghi1", "ada", "d" * 64, 5, ("a", "b"), 9, None, 60, 10**12, "top", 2)


def test_the_latest_policy_counts_and_every_one_stays(engine: Engine) -> None:
    """A change is on top of what was set before; other models keep theirs."""
    store = ServingPolicyStore(engine)
    assert store.current() == {} and store.history("m") == []
    first = store.change("m", {"batch_latency_ms": "20"}, "ada", "try", 1)
    store.change("n", {"outside": "refuse"}, "ada", "", 2)
    second = store.change("m", {"cache_bytes": 1024}, "bob", "it repeats itself", 3)
    assert store.history("m") == [first, second]
    assert store.current() == {
        "m": ServingPolicy(batch_latency_ms=20, cache_bytes=1024),
        "n": ServingPolicy(outside="refuse"),
    }


def test_a_bad_change_changes_nothing(engine: Engine) -> None:
    """All faults are named, and the policy is the one before."""
    store = ServingPolicyStore(engine)
    store.change("m", {"replicas_max": 4, "replicas_min": 2}, "ada", "", 1)
    for values in ({"replicas_max": 1}, {"x": 1, "outside": "maybe", "batch_items": 0}):
        with pytest.raises(InvalidInput) as refused:
            store.change("m", values, "ada", "", 2)
        assert len(refused.value.faults) == len(values)
    assert len(store.history("m")) == 1


def test_two_people_at_once_lose_nothing(engine: Engine) -> None:
    """Each changes another field; both changes count."""
    store = ServingPolicyStore(engine)
    names = ("batch_latency_ms", "batch_items", "cache_ttl_s", "retention_days")
    threads = [
        Thread(target=store.change, args=("m", {name: 7}, "ada", "", 1)) for name in names
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    policy = store.current()["m"]
    assert [getattr(policy, name) for name in names] == [7] * 4
    assert len(store.history("m")) == 4


def test_a_key_is_kept_as_it_was_made_and_revoked_once(engine: Engine) -> None:
    """The first revocation counts with its reason; the key's own row stays as it was."""
    store = ApiKeyStore(engine)
    plain = ApiKey("abcdefghi2", "bob", "e" * 64, 6)
    store.add(KEY, "user:ada")
    store.add(plain, "user:bob")
    assert store.records() == [KeyRecord(KEY, "user:ada"), KeyRecord(plain, "user:bob")]
    gone = KeyRecord(replace(KEY, revoked_us=7), "user:ada", "user:eve", "it leaked")
    assert store.revoke(KEY.key_id, "user:eve", "it leaked", 7) == gone
    assert store.revoke(KEY.key_id, "user:bob", "again", 8) == gone
    assert store.records() == [gone, KeyRecord(plain, "user:bob")]
    assert store.revoke("absent", "user:bob", "again", 8) is None


def test_a_revocation_cannot_be_undone(engine: Engine) -> None:
    """Neither row may be changed or deleted, and no key gets another secret."""
    store = ApiKeyStore(engine)
    store.add(KEY, "user:ada")
    store.revoke(KEY.key_id, "user:eve", "it leaked", 7)
    for statement in (
        "delete from api_key_revocation", "update api_key_revocation set revoked_us = 9",
        "update api_key set secret_sha256 = 'f'", "delete from api_key",
        "update api_key set told = 'all'",
    ):  # fmt: skip
        with pytest.raises(IntegrityError, match="append-only"), engine.begin() as connection:
            connection.execute(text(statement))
    assert store.records()[0].key.revoked_us == 7
