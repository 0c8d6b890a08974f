"""A request's way through the replica, step by step: from who asks to what he is told.

Admit the key, decompress, parse, envelope, quota, cache, infer (perhaps in company),
guard, cut to what the key is told, write. Whatever stops a request is answered in the protocol's
own form; the statuses that come of it are final for the edge.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from steelyard.domain.envelope_bounds import Bounds
from steelyard.domain.errors import InvalidInput, SteelyardError
from steelyard.domain.serving_snapshot import Snapshot
from steelyard_serving.access import Denied, admit
from steelyard_serving.audit import Outcome
from steelyard_serving.cached_inference import CachedInference
from steelyard_serving.deadline import Expired, deadline_ns
from steelyard_serving.envelope import flags
from steelyard_serving.executor import Executor
from steelyard_serving.guard import is_sound
from steelyard_serving.inference import Outputs
from steelyard_serving.internal import is_internal
from steelyard_serving.near_duplicates import NearDuplicates
from steelyard_serving.privacy import cut
from steelyard_serving.protocols.compression import compressed, decompressed
from steelyard_serving.protocols.faults import TooLarge, UnknownMediaType
from steelyard_serving.protocols.protocol import InferRequest, Written
from steelyard_serving.protocols.tensors import classes
from steelyard_serving.quota import Quota
from steelyard_serving.replica import LoadedModel
from steelyard_serving.work import NOTHING_SET, Work

INFERENCE_FAILED = 520
"""A plain 500 or 404 is how Ray Serve says that nothing ran; the edge makes this one a 500."""

log = logging.getLogger(__name__)


class RuleSource(Protocol):
    """Where the rules of the moment come from."""

    def current(self, now_monotonic: float) -> Snapshot:
        """The snapshot to go by now."""


class Unchanging:
    """Rules that stay as they are; at first those of a platform where nothing was set."""

    def __init__(self, snapshot: Snapshot = NOTHING_SET) -> None:
        self._snapshot = snapshot

    def current(self, now_monotonic: float) -> Snapshot:
        """Always the same."""
        return self._snapshot


NO_RULES = Unchanging()


@dataclass(frozen=True, slots=True)
class Checks:
    """What requests are held against; without any, everybody may ask everything.

    ``mark`` is what requests of our own wear. ``bounds`` are those of the version's training.
    """

    rules: RuleSource = NO_RULES
    quota: Quota | None = None
    near: NearDuplicates | None = None
    bounds: Sequence[Bounds] = ()
    mark: str | None = None


class Pipeline:
    """The steps for one version; knows nothing of HTTP but headers, and keeps no records."""

    def __init__(
        self,
        model: LoadedModel,
        body_limit_bytes: int,
        checks: Checks,
        unclaimed: Callable[[int], None],
    ) -> None:
        """``unclaimed`` gets the nanoseconds that were spent on requests which were given up."""
        self._version = model.version
        self._limit = body_limit_bytes
        self._checks = checks
        self._unclaimed = unclaimed
        executor = Executor(model, unclaimed)
        self._inference = CachedInference(executor, model.version.sha256)

    async def run(self, work: Work, body: bytes | None) -> tuple[Outcome, Written]:
        """Answer a request, or say why not. No body: it was too large."""
        try:
            self._admit(work)
        except Denied as fault:
            return self._refuse(work, fault.status, fault)
        try:
            request = self._read(work, body)
            if work.deadline_ns is not None and time.perf_counter_ns() >= work.deadline_ns:
                raise Expired
            inferred = await self._inference.infer(work, request)
            if inferred.failure is not None:
                raise inferred.failure
            return self._answer(work, request, inferred.outputs)
        except asyncio.CancelledError:
            self._unclaimed(work.busy_ns)
            raise
        except (InvalidInput, Denied, Expired) as fault:
            return self._refuse(work, _status(fault), fault)
        # Whatever the graph raises, the client gets one line and the log the rest.
        except Exception:
            log.exception("inference failed: %s, %s", self._version.name, work.prediction_id)
            return self._refuse(work, INFERENCE_FAILED, SteelyardError("inference failed"))

    def _admit(self, work: Work) -> None:
        """Who asks, by the rules of this moment; what we ask ourselves needs no key."""
        checks, model = self._checks, self._version.model
        work.snapshot = snapshot = checks.rules.current(time.monotonic())
        work.policy = snapshot.policy(model)
        if not (snapshot.require_keys and checks.mark and is_internal(work.headers, checks.mark)):
            work.key = admit(snapshot, work.headers, model, work.received_us)

    def _read(self, work: Work, body: bytes | None) -> InferRequest:
        """What is asked, if the key may ask so much and it is like what training saw."""
        if body is None:
            raise TooLarge(f"the body is larger than {self._limit} bytes")
        # Recorded as it came, should it not be what it says.
        work.body = body
        work.body = decompressed(body, work.headers, self._limit)
        checks, key = self._checks, work.key
        request = work.protocol.read(work.body, work.headers, self._version.signature)
        work.deadline_ns = deadline_ns(work.headers, request.timeout_us, work.arrived_ns)
        # Before the budget: rows that are refused spend nothing of it.
        if checks.bounds and (odd := flags(checks.bounds, request.inputs, work.policy.outside)):
            work.odd(odd)
        if key is not None and checks.quota is not None:
            checks.quota.take(key, self._version.model, request.items, work.received_us)
        if key is not None and checks.near is not None:
            near = checks.near.count(key.key_id, request.inputs, request.items)
            if near:
                work.odd(f"near:{near}")
                if checks.quota is not None:
                    checks.quota.near(key, near)
        work.items = request.items
        return request

    def _answer(
        self, work: Work, request: InferRequest, outputs: Outputs
    ) -> tuple[Outcome, Written]:
        """Guard, cut and write; the protocols guard what is told as it is."""
        version, told = self._version, outputs
        if work.key is not None and work.key.told != "all":
            # A cut would hide what must not be told.
            if not is_sound(outputs):
                raise ValueError("the model's outputs hold NaN or infinity")
            told = cut(work.key, outputs, version.signature)
        plain = work.protocol.write(version, request, told, work.prediction_id)
        written = compressed(plain, work.headers)
        found = classes(outputs, version.signature)
        return _outcome(work, 200, found, answer=plain.body), written

    def _refuse(self, work: Work, status: int, fault: SteelyardError) -> tuple[Outcome, Written]:
        written = work.protocol.refuse(status, fault)
        if isinstance(fault, Denied):
            written = Written(written.body, {**written.headers, **fault.headers})
        return _outcome(work, status, error=fault.message), written


def _outcome(
    work: Work,
    status: int,
    classes: tuple[int, ...] | None = None,
    error: str | None = None,
    answer: bytes | None = None,
) -> Outcome:
    """What the record says; the watch stops here."""
    work.pause()
    policy, key = work.policy, work.key
    latency_us = (time.perf_counter_ns() - work.arrived_ns) // 1_000
    # By position: names would cost each request a microsecond.
    return Outcome(
        status, work.busy_ns, work.items, classes, error, latency_us,
        None if key is None else key.key_id, work.cached is True, work.batch, work.flags, answer,
        policy.record_inputs == "values", policy.record_outputs == "values",
    )  # fmt: skip


def _status(fault: SteelyardError) -> int:
    if isinstance(fault, Denied | Expired):
        return fault.status
    if isinstance(fault, TooLarge):
        return 413
    return 415 if isinstance(fault, UnknownMediaType) else 400
