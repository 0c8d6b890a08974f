"""The loop that makes the world agree with SQL: applications, weights, aliases, the ledger.

One turn looks, decides (``services.rollouts``, pure rules), writes the intent, and only then
touches Ray Serve and the edge. Nothing is kept in this process that SQL does not know, so it may
be killed at any point and started again. A lease with a fencing token keeps a second one out.
"""

import gc
import logging
import signal
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from steelyard.bootstrap import Platform
from steelyard.domain.errors import NotFound, Refused, SteelyardError
from steelyard.domain.rollout import CONTROLLER_LEASE, SECOND_US
from steelyard.domain.serving_policy import ServingPolicy
from steelyard.domain.serving_snapshot import Snapshot
from steelyard.ports.applications import (
    Applications,
    ApplicationState,
    Replicas,
    ServedVersion,
)
from steelyard.ports.traffic_router import TrafficRouter
from steelyard.settings import load_settings
from steelyard_serving.app import RayApplications
from steelyard_serving.bookkeeping import Bookkeeping, Rests, settled_after_us
from steelyard_serving.registry_watch import RegistryWatch
from steelyard_serving.snapshot_file import SnapshotFile
from steelyard_serving.traffic_router import EdgeRouter

LEASE_TTL_US = 5 * SECOND_US
HEAR_EVERY_S = 0.1
"""How soon a rollback is heard, whatever a turn waits for."""

Key = tuple[str, int]
log = logging.getLogger("steelyard.controller")


@dataclass
class Controller:
    """One controller; ``turn`` may be called at any time and repeated."""

    platform: Platform
    applications: Applications
    router: TrafficRouter
    holder: str = field(default_factory=lambda: uuid.uuid4().hex)
    _served: dict[Key, ServedVersion] = field(default_factory=dict)
    _refused: dict[Key, str] = field(default_factory=dict)
    _published: dict[Key, ApplicationState] = field(default_factory=dict)
    _confirmed: dict[str, int] = field(default_factory=dict)
    _seen: int = 0
    _heard: int = 0
    _diverted: frozenset[Key] = frozenset()
    _failing: dict[str, str] = field(default_factory=dict)
    _token: int | None = None
    _telling: threading.Lock = field(default_factory=threading.Lock)
    _routing: threading.Lock = field(default_factory=threading.Lock)
    _watch: RegistryWatch = field(init=False)
    _books: Bookkeeping = field(init=False)

    def __post_init__(self) -> None:
        self._watch = RegistryWatch(self.platform)
        self._books = Bookkeeping(self.platform, self._watch)

    def turn(self) -> bool:
        """Reconcile everything once; False when another controller holds the lease."""
        platform = self.platform
        now = platform.clock.now_us()
        token = platform.rollout_store.leases.acquire(
            CONTROLLER_LEASE, self.holder, now, LEASE_TTL_US
        )
        is_new, self._token = token != self._token, token
        if token is None:
            return False
        if is_new:
            self._books.keep()
        self._seen = platform.rollout_store.newest_event()
        snapshot = self._write_snapshot()
        platform.rollouts.complete_promotions(token)
        states = self._run_desired(snapshot.policies)
        settle_us = settled_after_us(
            platform.settings, self._books.collected_us, platform.clock.now_us()
        )
        failing: dict[str, str] = {}
        tell = partial(self._tell_failed, failing)
        for turn in platform.rollouts.turns.all(states, settle_us, token, tell):
            after = turn.after
            if turn.before != after:
                log.info("%s/%d: %s, %s", after.model, after.candidate, after.condition,
                         after.reason)  # fmt: skip
        self._failing = failing
        self.router.steer(snapshot.policies, _ready(states))
        self._route(states, token)
        self._tell_diverted()
        self.router.limit(snapshot.keys)
        self._watch.turn(token)
        return True

    def is_asked(self) -> bool:
        """Whether something was decided since the last turn began."""
        return self._token is not None and self.platform.rollout_store.newest_event() != self._seen

    def hear(self) -> None:
        """Bring traffic where the newest decision wants it; from any thread, also in a turn."""
        token = self._token
        if token is None or not self._published:
            return
        newest = self.platform.rollout_store.newest_event()
        if newest != self._heard:
            self._route(self._published, token)
            self._heard = newest

    def tell_replicas(self) -> None:
        """Write what replicas go by, if this controller leads; from any thread, also in a turn."""
        if self._token is not None:
            self._write_snapshot()

    def keep_books(self) -> None:
        """Collect and post, with rests, if this controller leads; in a thread of its own.

        Raises:
            Unavailable: the database does not answer.
        """
        if self._token is not None:
            self._books.keep(Rests())

    def _write_snapshot(self) -> Snapshot:
        platform = self.platform
        with self._telling:
            snapshot = Snapshot(
                platform.settings.require_keys, platform.policies.current(), platform.keys.live(),
                platform.operations.rules(_ready(self._published)),
            )  # fmt: skip
            if SnapshotFile(platform.settings).write(snapshot):
                log.info("replicas are told of %d policies and %d keys", len(snapshot.policies),
                         len(snapshot.keys))  # fmt: skip
        return snapshot

    def _run_desired(
        self, policies: Mapping[str, ServingPolicy]
    ) -> Mapping[Key, ApplicationState]:  # fmt: skip
        """Start what should run, stop what should not, publish how it is."""
        wanted: set[Key] = set()
        for model, desired in self.platform.operations.all_desired().items():
            policy = policies.get(model, ServingPolicy())
            replicas = Replicas(policy.replicas_min, policy.replicas_max)
            for version in desired.versions:
                wanted.add((model, version))
                self._ensure((model, version), replicas)
        states = dict(self.applications.states()) if wanted or self._published else {}
        for key in states.keys() - wanted:
            self.applications.remove(*key)
        found = {key: state for key, state in states.items() if key in wanted}
        for key, reason in self._refused.items():
            found[key] = ApplicationState("failed", reason)
        self._publish(found)
        return found

    def _ensure(self, key: Key, replicas: Replicas) -> None:
        if key not in self._served and key not in self._refused:
            try:
                self._served[key] = self.platform.served_versions.served(*key)
            except (Refused, NotFound) as error:
                log.error("%s/%d: %s", *key, error)
                self._refused[key] = str(error)
                return
        if key in self._served:
            self.applications.ensure(self._served[key], replicas)

    def _publish(self, states: Mapping[Key, ApplicationState]) -> None:
        store, now = self.platform.rollout_store, self.platform.clock.now_us()
        # Set once, at the end: other threads tell the edge and the replicas of what is in it.
        published = self._published or {
            (row["model"], row["version"]): ApplicationState("starting")
            for row in store.applications.published()
        }
        for key in published.keys() - states.keys():
            store.applications.publish(*key, "gone", "", now)
        for key, state in states.items():
            if published.get(key) != state:
                store.applications.publish(*key, state.phase, state.reason, now)
        self._published = dict(states)

    def _route(self, states: Mapping[Key, ApplicationState], token: int) -> None:
        with self._routing:  # who comes later has read what is newer
            routes = self.platform.rollout_store.fleet.routes()
            self.router.apply(routes, _ready(states))
            for model, route in routes.items():
                if self._confirmed.get(model) != route.generation:
                    self.platform.rollouts.confirm(model, route.generation, token)
                    self._confirmed[model] = route.generation

    def _tell_failed(self, failing: dict[str, str], model: str, error: Exception) -> None:
        """Say once a cause that a model's rollouts stay as they are; others' have their turn."""
        failing[model] = why = str(error)
        if self._failing.get(model) != why:
            unforeseen = None if isinstance(error, SteelyardError) else error
            log.error("%s: its rollouts had no turn: %s", model, why, exc_info=unforeseen)

    def _tell_diverted(self) -> None:
        """What the edge's guard did without us; the records of its reasons decide the rest."""
        diverted = self.router.diverted()
        for key in sorted(diverted - self._diverted):
            log.warning("%s/%d: its newest answers were failures, the edge asks stable instead",
                        *key)  # fmt: skip
        self._diverted = diverted


def _ready(states: Mapping[Key, ApplicationState]) -> frozenset[Key]:
    return frozenset(key for key, state in states.items() if state.phase == "ready")


def run(controller: Controller, stop: threading.Event, tick_s: float) -> None:
    """Run turns until ``stop``; one that fails is logged, once a cause, and tried again.

    The database may be away for as long as it likes: facts wait in the spool, the edge goes on
    with the weights it has.
    """
    beside = [
        # A key that is revoked must be refused within seconds, whatever else is slow.
        _beside("teller", controller.tell_replicas, stop, tick_s),
        _beside("hearer", controller.hear, stop, HEAR_EVERY_S),
        _beside("bookkeeper", controller.keep_books, stop, tick_s),
    ]
    try:
        _turns(controller, stop, tick_s)
    finally:
        # Whatever ends the turns ends all of it, and the supervisor starts another.
        stop.set()
        for thread in beside:
            thread.join()


def _turns(controller: Controller, stop: threading.Event, tick_s: float) -> None:
    told, is_loaded = "", False
    while not _pause(controller, stop, tick_s):
        try:
            led = controller.turn()
            if led and not is_loaded:
                # All that stays is here by now; a collection need not look at it again.
                gc.collect()
                gc.freeze()
                is_loaded = True
        except SteelyardError as error:
            if str(error) != told:
                log.warning("%s", error)
            told = str(error)
        except Exception:
            log.exception("a turn failed; trying again")
        else:
            if told:
                log.info("turns work again")
            told = ""


def _pause(controller: Controller, stop: threading.Event, tick_s: float) -> bool:
    """Wait for the next turn, and no longer when somebody decides; True when it is the end."""
    until = time.monotonic() + tick_s
    while (left_s := until - time.monotonic()) > 0 and not stop.wait(min(left_s, HEAR_EVERY_S)):
        with suppress(SteelyardError):  # the turns say so
            if controller.is_asked():
                break
    return stop.is_set()


def _beside(
    name: str, act: Callable[[], None], stop: threading.Event, every_s: float
) -> threading.Thread:
    """Do something again and again, also while a turn waits for Ray or the registry."""

    def keep() -> None:
        while not stop.wait(every_s):
            try:
                act()
            except SteelyardError:
                pass  # the turns say so
            except Exception:
                log.exception("the %s failed; trying again", name)

    thread = threading.Thread(target=keep, name=name)
    thread.start()
    return thread


def main() -> None:
    """Run turns until SIGTERM or SIGINT; also when the database does not answer yet."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for noisy in ("alembic", "mlflow", "httpx2", "ray"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    settings = load_settings()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    controller = Controller(Platform(settings), RayApplications(settings), EdgeRouter(settings))
    log.info("controller %s started", controller.holder[:8])
    run(controller, stop, settings.tick_s)


if __name__ == "__main__":
    main()
