"""A network that torch itself runs: for files that no replica loads, and to compare with."""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


@dataclass(frozen=True, slots=True)
class TorchRuntime:
    """Operation by operation, in as many threads as the process gave torch."""

    network: nn.Module
    datatype: str | None = None
    batch: int | None = None
    # The distribution's version: torch's own also names what it was built for, on some builds.
    name: str = f"torch {version('torch')}"

    def answer(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """The answer to one batch."""
        with torch.inference_mode():
            found: NDArray[np.float32] = self.network(torch.from_numpy(rows)).numpy()
        return found
