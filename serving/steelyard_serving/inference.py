"""One inference, for one request or for several, and what each of them bears of its time.

Plain calls that hold their thread; ``executor`` says when and in which.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np

from steelyard_serving.batching import Waiting, shares
from steelyard_serving.deadline import Expired
from steelyard_serving.protocols.tensors import Array
from steelyard_serving.replica import LoadedModel

log = logging.getLogger(__name__)
Inputs = Mapping[str, Array]
Outputs = Mapping[str, Array]
NONE: Outputs = {}


class Inferred(NamedTuple):
    """What an inference was for one of its requests.

    ``infer_ns`` is this request's part of its time, ``queue_ns`` the wait for it. ``batch`` numbers
    the inference in this replica, None when there was none; ``rows`` are those of all who shared
    it, and ``leads`` is true for one of them. With a ``failure`` there are no outputs.
    """

    outputs: Outputs
    infer_ns: int = 0
    queue_ns: int = 0
    batch: int | None = None
    rows: int = 0
    leads: bool = False
    failure: Exception | None = None


class Ran(NamedTuple):
    """What became of requests that went together. ``took_ns``: None if that told nothing."""

    found: Sequence[Inferred]
    rows: int
    took_ns: int | None
    ended_ns: int


class Inference:
    """Runs a model and numbers its inferences."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._numbers = count(1)
        self.shareable = model.takes_batches
        """Whether several requests may be one inference, as far as is known."""

    def alone(self, inputs: Inputs, rows: int, since_ns: int, deadline_ns: int | None) -> Inferred:
        """Infer for one request, unless its deadline has passed."""
        started = time.perf_counter_ns()
        queue_ns = started - since_ns
        if deadline_ns is not None and started >= deadline_ns:
            return Inferred(NONE, 0, queue_ns, failure=Expired())
        outputs, failure = NONE, None
        try:
            outputs = self._model.run(inputs)
        # Whatever the graph raises is this request's affair.
        except Exception as error:
            failure = error
        infer_ns = time.perf_counter_ns() - started
        return Inferred(outputs, infer_ns, queue_ns, next(self._numbers), rows, True, failure)

    def _waited(self, inputs: Inputs, waiting: Waiting) -> Inferred:
        return self.alone(inputs, waiting.rows, waiting.since_ns, waiting.deadline_ns)

    def together(self, inputs: Sequence[Inputs], waiting: Sequence[Waiting]) -> Ran:
        """One inference for all; if it fails, one for each, so that nobody suffers for another."""
        if len(inputs) == 1:
            one = self._waited(inputs[0], waiting[0])
            took_ns = one.infer_ns if one.failure is None else None
            return Ran([one], one.rows, took_ns, time.perf_counter_ns())
        rows = [one.rows for one in waiting]
        started = time.perf_counter_ns()
        parts = self._shared(inputs, rows)
        ended = time.perf_counter_ns()
        costs, total = shares(ended - started, rows), sum(rows)
        if parts is None:
            alone = list(map(self._waited, inputs, waiting))
            # Everyone bears a part of what was tried together, too.
            found = [
                one._replace(infer_ns=one.infer_ns + cost)
                for one, cost in zip(alone, costs, strict=True)
            ]
            return Ran(found, total, None, time.perf_counter_ns())
        number = next(self._numbers)
        found = [
            Inferred(part, cost, started - one.since_ns, number, total)
            for one, part, cost in zip(waiting, parts, costs, strict=True)
        ]
        return Ran(found, total, ended - started, ended)

    def _shared(self, inputs: Sequence[Inputs], rows: Sequence[int]) -> list[Outputs] | None:
        """Everyone's outputs; None when they cannot be had together."""
        try:
            parts = _parted(self._model.run(_joined(inputs)), rows)
        except Exception:
            log.warning("%d requests failed together, each runs alone", len(rows), exc_info=True)
            return None
        if parts is None:
            log.warning("%s does not give a row for a row: no batches", self._model.version.name)
            self.shareable = False
        return parts


def _joined(inputs: Sequence[Inputs]) -> dict[str, Array]:
    return {name: np.concatenate([one[name] for one in inputs]) for name in inputs[0]}


def _parted(outputs: Outputs, rows: Sequence[int]) -> list[Outputs] | None:
    """Everyone's rows; None if an output has not a row for each row."""
    total = sum(rows)
    if any(not one.ndim or len(one) != total for one in outputs.values()):
        return None
    ends = np.cumsum(rows).tolist()
    return [
        {name: one[end - own : end] for name, one in outputs.items()}
        for own, end in zip(rows, ends, strict=True)
    ]
