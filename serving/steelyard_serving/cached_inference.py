"""Inference with a memory: what was answered before, or is being inferred now, is not run again."""

import asyncio
import time

from steelyard_serving.cache import Cache, Flights, Outputs, key_of
from steelyard_serving.deadline import Expired
from steelyard_serving.executor import Executor
from steelyard_serving.guard import is_sound
from steelyard_serving.inference import Inferred
from steelyard_serving.protocols.protocol import InferRequest
from steelyard_serving.work import Work


class CachedInference:
    """The executor behind a cache, whose size each request's policy sets anew."""

    def __init__(self, executor: Executor, sha256: str) -> None:
        self._executor = executor
        self._sha256 = sha256
        self._cache = Cache()
        self._flights = Flights()

    async def infer(self, work: Work, request: InferRequest) -> Inferred:
        """The outputs for a request; it bears its part of the time, its watch is running then.

        Raises:
            Expired: its deadline passed while it waited for an equal one.
        """
        policy = work.policy
        if policy.cache_bytes or self._cache.limit_bytes:
            self._cache.resize(policy.cache_bytes, policy.cache_ttl_s * 1_000_000_000)
        if not policy.cache_bytes or work.probe:
            return await self._run(work, request)
        started_ns = time.perf_counter_ns()
        key = key_of(self._sha256, request.inputs)
        work.lookup_ns = time.perf_counter_ns() - started_ns
        found = await self._known(work, key)
        work.cached = found is not None
        if found is not None:
            return Inferred(found)
        with self._flights.leading(key) as flight:
            inferred = await self._run(work, request)
            # What is refused to one client is kept for nobody.
            if inferred.failure is None and is_sound(inferred.outputs):
                self._cache.put(key, inferred.outputs, time.perf_counter_ns())
                flight.set_result(inferred.outputs)
        return inferred

    async def _known(self, work: Work, key: bytes) -> Outputs | None:
        while (found := self._cache.get(key, time.perf_counter_ns())) is None:
            flight = self._flights.under_way(key)
            if flight is None:
                return None
            work.pause()
            paused_ns = time.perf_counter_ns()
            try:
                # Shielded, because who stops waiting must not stop the others.
                found = await asyncio.shield(flight)
            finally:
                work.resume()
                work.queue_ns += time.perf_counter_ns() - paused_ns
            if found is not None:
                return found
            if work.deadline_ns is not None and time.perf_counter_ns() >= work.deadline_ns:
                raise Expired
        return found

    async def _run(self, work: Work, request: InferRequest) -> Inferred:
        asked = request.inputs, request.items, work.deadline_ns, work.policy
        work.pause()
        work.asked_ns = time.perf_counter_ns()
        inferred = self._executor.at_once(*asked)
        if inferred is None:
            inferred = await self._executor.infer(*asked)
        work.inferred(inferred)
        return inferred
