"""From a person's command to what a replica goes by, through the file between them."""

import itertools
import stat
import threading
import time
from collections.abc import Mapping

import pytest
from pydantic import SecretStr
from tests.nothing_served import NoEdge, NothingRuns

from steelyard.bootstrap import Platform
from steelyard.domain.api_key import ApiKey
from steelyard.domain.errors import Refused, Unavailable
from steelyard.domain.serving_policy import ServingPolicy
from steelyard.domain.serving_snapshot import Snapshot, opened
from steelyard.ports.applications import ONE, Replicas, ServedVersion
from steelyard.services.keys import KeyRequest
from steelyard_serving.access import Denied, admit
from steelyard_serving.controller import Controller, run
from steelyard_serving.rules import INTERVAL_S, Rules
from steelyard_serving.secret_files import serving_key
from steelyard_serving.snapshot_file import SnapshotFile


class Limited(NothingRuns, NoEdge):
    """Nothing runs, and the edge keeps its limits; policies may be set."""

    def __init__(self) -> None:
        self.limits: Mapping[str, ApiKey] = {}

    def steer(
        self, policies: Mapping[str, ServingPolicy], deployed: frozenset[tuple[str, int]]
    ) -> None:
        """Whatever is set."""

    def limit(self, keys: Mapping[str, ApiKey]) -> None:
        """Keep them."""
        self.limits = keys


class Stuck(Limited):
    """A Ray that does not come back until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.released = threading.Event(), threading.Event()

    def ensure(self, served: ServedVersion, replicas: Replicas = ONE) -> None:
        """Wait, as a call to Ray may."""
        self.reached.set()
        self.released.wait(60)
        raise Unavailable("Ray does not answer.")


def controller_of(platform: Platform) -> Controller:
    """A controller of a platform on which nothing is deployed."""
    nothing = Limited()
    return Controller(platform, nothing, nothing)


def test_it_is_written_when_it_says_something_new(empty: Platform) -> None:
    """Private and signed; the same again is not written, a file that was changed is."""
    file = SnapshotFile(empty.settings)
    snapshot = Snapshot(policies={"m": ServingPolicy(batch_items=2)})
    assert file.write(snapshot)
    assert not file.write(snapshot)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert opened(file.path.read_bytes(), serving_key(empty.settings)) == snapshot
    file.path.write_bytes(file.path.read_bytes().replace(b'"batch_items":2', b'"batch_items":9'))
    with pytest.raises(Refused, match="not signed"):
        opened(file.path.read_bytes(), serving_key(empty.settings))
    assert file.write(snapshot)


def test_a_disk_that_takes_nothing_is_said_as_such(empty: Platform) -> None:
    """The file that was there stays."""
    file = SnapshotFile(empty.settings)
    file.write(Snapshot())
    before = file.path.read_bytes()
    draft = next(iter(file.path.parent.iterdir())).with_name("blocked")
    draft.mkdir()
    blocked = SnapshotFile(empty.settings)
    blocked.path = draft
    with pytest.raises(Unavailable, match="cannot be written"):
        blocked.write(Snapshot(require_keys=True))
    assert file.path.read_bytes() == before


def test_replicas_go_by_what_people_set(empty: Platform) -> None:
    """A key opens after one turn and is refused after the turn that follows its revocation.

    While the database is away the file stays as it is.
    """
    controller, rules = controller_of(empty), Rules(empty.settings)
    looks = itertools.count(start=0.0, step=INTERVAL_S)
    key, text = empty.keys.create(KeyRequest("ada", requests_per_minute=5), "user:ada")
    empty.policies.__dict__["_store"].change("m", {"batch_items": 7}, "user:ada", "", 1)
    headers = {"authorization": f"Bearer {text}"}
    assert controller.turn()
    snapshot = rules.current(next(looks))
    now = empty.clock.now_us()
    assert admit(snapshot, headers, "m", now) == key
    assert snapshot.policy("m") == ServingPolicy(batch_items=7)
    assert snapshot.policy("n") == ServingPolicy()
    assert controller.router.__dict__["limits"] == {key.key_id: key}
    empty.keys.revoke(key.key_id, "user:ada", "it leaked")
    assert controller.turn()
    with pytest.raises(Denied) as denied:
        admit(rules.current(next(looks)), headers, "m", now)
    assert denied.value.status == 401
    assert controller.router.__dict__["limits"] == {}
    before = SnapshotFile(empty.settings).path.read_bytes()
    gone = SecretStr("postgresql://nobody@127.0.0.1:9/steelyard")
    away = Platform(empty.settings.model_copy(update={"database_url": gone}))
    with pytest.raises(Unavailable, match="does not answer"):
        controller_of(away).turn()
    assert SnapshotFile(empty.settings).path.read_bytes() == before


def test_a_key_is_revoked_also_while_a_turn_hangs(seeded: Platform) -> None:
    """Replicas refuse it within 5 s, though the controller waits for Ray for longer."""
    key, text = seeded.keys.create(KeyRequest("ada"), "user:ada")
    stuck, stop = Stuck(), threading.Event()
    # The seeded history was made under this name, which therefore holds the lease.
    controller = Controller(seeded, stuck, stuck, holder="test")
    thread = threading.Thread(target=run, args=(controller, stop, 0.05))
    thread.start()
    try:
        assert stuck.reached.wait(60)
        rules, header = Rules(seeded.settings), {"x-api-key": text}
        assert admit(rules.current(time.monotonic()), header, "m", seeded.clock.now_us()) == key
        seeded.keys.revoke(key.key_id, "user:ada", "it leaked")
        deadline = time.monotonic() + 5
        while key.key_id in rules.current(time.monotonic()).keys:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert not stuck.released.is_set()
    finally:
        stop.set()
        stuck.released.set()
        thread.join()
