"""Where a run stands, and everything that a worker needs to go on from there.

A checkpoint is a folder: ``state.pt`` from rank 0 with network, optimiser and the place in the
run, and from every rank its random states. All of it is tensors and plain values.
"""

import random
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from steelyard_workflows import saved_files
from steelyard_workflows.training.stopping import Progress

CHECKPOINT_FILE = "state.pt"


@dataclass(frozen=True, slots=True)
class Position:
    """``epoch`` counts from 1; ``batch`` of it are learned; ``step`` optimiser steps are done."""

    epoch: int = 1
    batch: int = 0
    step: int = 0

    def after(self, batches: int) -> "Position":
        """The place after one more optimiser step, of so many batches."""
        return Position(self.epoch, self.batch + batches, self.step + 1)

    def next_epoch(self) -> "Position":
        """The place at the start of the next epoch."""
        return Position(self.epoch + 1, 0, self.step)


@dataclass(frozen=True, slots=True)
class Sums:
    """Training loss × rows, and rows, of the epoch so far, over all workers."""

    loss: float = 0.0
    rows: int = 0

    def plus(self, loss: float, rows: int) -> "Sums":
        """With one more step of mean ``loss``."""
        return Sums(self.loss + loss * rows, self.rows + rows)


@dataclass(frozen=True, slots=True)
class Place:
    """The place in the run, the partly done epoch's sums, and the best epoch so far."""

    position: Position = Position()
    sums: Sums = Sums()
    progress: Progress = field(default_factory=Progress)


def save(folder: Path, place: Place, weights: dict[str, Any], rank: int) -> None:
    """Write this rank's part of a checkpoint; ``weights`` are network and optimiser."""
    torch.save(_random_states(), folder / _random_file(rank))
    if rank == 0:
        parts = {
            "position": astuple(place.position),
            "sums": astuple(place.sums),
            "progress": astuple(place.progress),
        }
        torch.save({**weights, **parts}, folder / CHECKPOINT_FILE)


def load(folder: Path) -> tuple[Place, dict[str, Any]]:
    """The place and the weights of a checkpoint.

    Raises:
        Refused: it holds anything but tensors and plain values.
    """
    state = saved_files.state(folder / CHECKPOINT_FILE)
    place = Place(
        Position(*state["position"]), Sums(*state["sums"]), Progress(*state["progress"])
    )  # fmt: skip
    return place, state


def seed(number: int, rank: int) -> None:
    """Draw from here on as this seed and rank do: masks of drop-out differ between workers."""
    torch.manual_seed(number * 1_009 + rank)
    np.random.seed((number * 1_009 + rank) % 2**32)
    random.seed(number * 1_009 + rank)


def restore_random(folder: Path, rank: int) -> None:
    """Go on drawing where this rank was; a rank that was not there keeps its seed."""
    path = folder / _random_file(rank)
    if not path.exists():
        return
    state = saved_files.state(path)
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    version, inner, gauss = state["python"]
    random.setstate((version, tuple(inner), gauss))


def _random_states() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, [int(key) for key in keys], *rest],
        "python": list(random.getstate()),
    }


def _random_file(rank: int) -> str:
    return f"random-{rank}.pt"
