"""Which rows a worker learns from in a step: a pure function of the seed and the place in the run.

Nothing is drawn that could be lost: a worker that starts again at (epoch, batch) takes exactly
the rows that remain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

SEED_STRIDE = 1_000_003
"""A prime, so that epochs of neighbouring seeds are shuffled differently."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How ``rows`` are dealt to ``world`` workers, ``batch`` of them at a time over all workers.

    Every epoch shuffles anew. All workers take equally many batches of equal size, so up to
    ``world`` - 1 rows of an epoch, others each time, are left out; the last batch may be smaller.
    ``accumulate`` batches make one optimiser step.
    """

    seed: int
    rows: int
    batch: int
    world: int = 1
    accumulate: int = 1

    @property
    def share(self) -> int:
        """Rows that one worker learns from in an epoch."""
        return self.rows // self.world

    @property
    def size(self) -> int:
        """Rows of one worker's full batch."""
        return self.batch // self.world

    @property
    def batches(self) -> int:
        """Batches of an epoch."""
        return -(-self.share // self.size)

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch."""
        return -(-self.batches // self.accumulate)

    def rows_of(self, epoch: int, batch: int, rank: int) -> torch.Tensor:
        """The rows of one worker's batch; ``batch`` counts from 0 within the epoch.

        >>> plan = Plan(seed=0, rows=10, batch=4, world=2)
        >>> dealt = [plan.rows_of(1, b, r).tolist() for b in range(plan.batches) for r in (0, 1)]
        >>> sorted(sum(dealt, []))
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
        """
        own = _order(self.seed, epoch, self.rows)[rank :: self.world][: self.share]
        return own[batch * self.size : (batch + 1) * self.size]

    def step_from(self, epoch: int, batch: int, rank: int) -> Sequence[torch.Tensor]:
        """The batches of the optimiser step that begins with ``batch``; none after the last."""
        end = min(batch + self.accumulate, self.batches)
        return [self.rows_of(epoch, n, rank) for n in range(batch, end)]


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed * SEED_STRIDE + epoch)
    return torch.randperm(rows, generator=generator)
