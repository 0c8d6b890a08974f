"""Whose turn it is: one inference at a time, for one request or for several that wait together.

A short inference runs in the event loop, a long one in a thread, so that health checks and new
requests are heard meanwhile.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from steelyard.domain.serving_policy import ServingPolicy
from steelyard_serving.batching import Learned, Waiting, seen_arrival, seen_inference, take
from steelyard_serving.deadline import Expired
from steelyard_serving.inference import NONE, Inference, Inferred, Inputs, Ran
from steelyard_serving.replica import LoadedModel

SLOW_NS = 5_000_000
"""An inference longer than this runs in the thread."""


@dataclass(slots=True, eq=False)
class _Call:
    """A request that waits for company."""

    inputs: Inputs
    waiting: Waiting
    told: "asyncio.Future[Inferred]"


class Executor:
    """The one place where a replica's model runs."""

    def __init__(self, model: LoadedModel, unclaimed: Callable[[int], None]) -> None:
        """``unclaimed`` gets the nanoseconds of inferences whose requests had been given up."""
        self._model = model
        self._inference = Inference(model)
        self._unclaimed = unclaimed
        self._slow = model.steady_ns > SLOW_NS
        self._thread = ThreadPoolExecutor(1, "infer")
        self._policy = ServingPolicy()
        self._learned = seen_inference(Learned(), 1, model.steady_ns, time.perf_counter_ns())
        self._lines: dict[object, deque[_Call]] = {}
        self._busy = False
        self._turn_due: asyncio.Handle | None = None

    def at_once(
        self, inputs: Inputs, rows: int, deadline_ns: int | None, policy: ServingPolicy
    ) -> Inferred | None:
        """Infer now and here, or None: it may take long, or others may come; then ``infer``."""
        if self._slow or self._busy or (policy.batch_latency_ms and self._inference.shareable):
            return None
        return self._inference.alone(inputs, rows, time.perf_counter_ns(), deadline_ns)

    async def infer(
        self, inputs: Inputs, rows: int, deadline_ns: int | None, policy: ServingPolicy
    ) -> Inferred:
        """Infer when it is its turn, with others when the policy asks for batches.

        ``deadline_ns`` is of ``time.perf_counter_ns``.
        """
        since_ns = time.perf_counter_ns()
        if policy.batch_latency_ms and self._inference.shareable:
            return await self._in_company(inputs, Waiting(rows, since_ns, deadline_ns), policy)
        job = self._thread.submit(self._inference.alone, inputs, rows, since_ns, deadline_ns)
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            job.cancel()
            job.add_done_callback(self._given_up)
            raise

    def _given_up(self, job: "Future[Inferred]") -> None:
        if not job.cancelled():
            self._unclaimed(job.result().infer_ns)

    async def _in_company(
        self, inputs: Inputs, waiting: Waiting, policy: ServingPolicy
    ) -> Inferred:
        """Wait in line with the requests that have the same form; the newest policy holds."""
        self._policy = policy
        self._learned = seen_arrival(self._learned, waiting.since_ns)
        told: asyncio.Future[Inferred] = asyncio.get_running_loop().create_future()
        line = self._lines.setdefault(self._model.form_of(inputs), deque())
        line.append(_Call(inputs, waiting, told))
        if not self._busy:
            self._turn_soon()
        return await told

    def _turn_soon(self) -> None:
        """In the next round of the event loop; who comes until then is there before the turn."""
        if isinstance(self._turn_due, asyncio.TimerHandle):
            self._turn_due.cancel()
            self._turn_due = None
        if self._turn_due is None:
            self._turn_due = asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """Let those go of whom the rule says so; the line with the oldest comes first."""
        self._turn_due = None
        now_ns = time.perf_counter_ns()
        form = self._oldest_line(now_ns)
        if form is None or self._busy:
            return
        line = self._lines[form]
        decision = take([call.waiting for call in line], self._learned, self._policy, now_ns)
        loop = asyncio.get_running_loop()
        if not decision.count:
            wait_s = (decision.until_ns - now_ns) / 1e9
            self._turn_due = loop.call_later(wait_s, self._turn)
            return
        calls = [line.popleft() for _ in range(decision.count)]
        inputs, waiting = [call.inputs for call in calls], [call.waiting for call in calls]
        if self._learned.predicted_ns(sum(one.rows for one in waiting)) <= SLOW_NS:
            self._tell(calls, self._inference.together(inputs, waiting))
            if any(self._lines.values()):
                self._turn_soon()
            return
        self._busy = True
        job = asyncio.wrap_future(self._thread.submit(self._inference.together, inputs, waiting))
        job.add_done_callback(partial(self._landed, calls))

    def _landed(self, calls: Sequence[_Call], job: "asyncio.Future[Ran]") -> None:
        self._busy = False
        self._tell(calls, job.result())
        # At once: the model would stand still while answers are written.
        self._turn()

    def _oldest_line(self, now_ns: int) -> object | None:
        """The form of the oldest request, without those that are late or given up."""
        for form, line in list(self._lines.items()):
            for call in [one for one in line if _is_late(one, now_ns) or one.told.done()]:
                line.remove(call)
                if not call.told.done():
                    waited_ns = now_ns - call.waiting.since_ns
                    call.told.set_result(Inferred(NONE, 0, waited_ns, failure=Expired()))
            if not line:
                del self._lines[form]
        return min(
            self._lines, key=lambda form: self._lines[form][0].waiting.since_ns, default=None
        )

    def _tell(self, calls: Sequence[_Call], ran: Ran) -> None:
        """Learn, and give each its own; the first who is still there stands for an inference."""
        if ran.took_ns is not None:
            self._learned = seen_inference(self._learned, ran.rows, ran.took_ns, ran.ended_ns)
        led: set[int | None] = set()
        for call, one in zip(calls, ran.found, strict=True):
            if call.told.done():
                self._unclaimed(one.infer_ns)
            else:
                call.told.set_result(one._replace(leads=one.batch not in led))
                led.add(one.batch)


def _is_late(call: _Call, now_ns: int) -> bool:
    return call.waiting.deadline_ns is not None and now_ns >= call.waiting.deadline_ns
