"""The two networks that everybody serves, each one ONNX file, and the rows that are asked.

    python networks.py FOLDER

exports them: a perceptron of three layers, and a residual network of eight on pictures of 32 by 32
in three colours. Their weights are random, since nobody looks at the answers but to compare them.
"""

import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

SEED = 7
INPUT, OUTPUT, CLASSES = "input", "logits", 10


@dataclass(frozen=True, slots=True)
class Network:
    """A model: its name, the shape of one row, and where its file is."""

    name: str
    row: tuple[int, ...]
    file: Path

    @property
    def shape(self) -> list[int]:
        """The shape of what is asked: one row."""
        return [1, *self.row]

    def flat(self) -> list[float]:
        """The numbers that are asked, as pixels have them: 256 values, four digits."""
        draw = random.Random(SEED)
        return [round(draw.randrange(256) / 255, 4) for _ in range(prod(self.row))]

    def nested(self) -> Any:
        """The same numbers as nested lists."""
        return _nested(self.flat(), self.shape)


def _nested(values: list[float], shape: list[int]) -> Any:
    if len(shape) == 1:
        return values
    step = len(values) // shape[0]
    return [_nested(values[n : n + step], shape[1:]) for n in range(0, len(values), step)]


def networks(cache: Path) -> list[Network]:
    """Both, exported by a process of its own when they are not there yet."""
    found = _at(cache)
    if not all(one.file.exists() for one in found):
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, __file__, str(cache)], check=True)
    return found


def _at(cache: Path) -> list[Network]:
    return [
        Network("mlp", (784,), cache / "mlp.onnx"),
        Network("resnet8", (3, 32, 32), cache / "resnet8.onnx"),
    ]


def perceptron(width: int = 256) -> Any:
    """784 to 10 over two layers of ``width``."""
    from torch import nn

    return nn.Sequential(
        nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, CLASSES),
    )  # fmt: skip


def residual() -> Any:
    """ResNet-8, as MLPerf Tiny has it for pictures: 16, 32 and 64 channels."""
    import torch
    from torch import nn

    def convolution(inside: int, outside: int, stride: int, size: int = 3) -> Any:
        return nn.Sequential(
            nn.Conv2d(inside, outside, size, stride, size // 2, bias=False),
            nn.BatchNorm2d(outside),
        )

    class Block(nn.Module):
        def __init__(self, inside: int, outside: int, stride: int) -> None:
            super().__init__()
            self.way = nn.Sequential(
                convolution(inside, outside, stride), nn.ReLU(), convolution(outside, outside, 1)
            )
            same = inside == outside
            self.past = nn.Identity() if same else convolution(inside, outside, stride, 1)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.way(rows) + self.past(rows))

    return nn.Sequential(
        convolution(3, 16, 1), nn.ReLU(),
        Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES),
    )  # fmt: skip


def _export(cache: Path) -> None:
    import numpy as np
    import torch

    from steelyard_workflows.export import export

    torch.manual_seed(SEED)
    draw = np.random.default_rng(SEED)
    for network, made in zip(_at(cache), (perceptron(), residual()), strict=True):
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            rows = draw.random((32, *network.row), np.float32)
            export(made, rows, Path(folder)).path.rename(network.file)


if __name__ == "__main__":
    _export(Path(sys.argv[1]))
