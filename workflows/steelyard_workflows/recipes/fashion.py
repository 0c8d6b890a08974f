"""Fashion-MNIST from its four files: 70,000 pictures of clothes, 28x28, ten classes (MIT licence).

The files are looked for where Debian's package ``dataset-fashion-mnist`` puts them, or in
``data.options.folder``. The package's test rows judge, the last tenth of its training rows chooses.
"""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.domain.errors import Fault, InvalidInput
from steelyard_workflows.data import Dataset, divide, shifted
from steelyard_workflows.workflow import Workflow

CLASSES = 10
SIDE = 28
FOLDER = "/usr/share/datasets/fashion-mnist"
PICTURES, LABELS = 2051, 2049
"""The numbers that an IDX file of pictures and one of labels begin with (Y. LeCun's MNIST page)."""
VALIDATION_SHARE = 10
LARGEST_FILE = 2**27
"""Unpacked; the 60,000 training pictures have 47 million bytes."""


def clothes(workflow: Workflow) -> Dataset:
    """Pictures [n, 1, 28, 28] in 0..1 and what each shows.

    Raises:
        InvalidInput: a file is missing, broken off, or something else.
    """
    folder = Path(str(workflow.data.options.get("folder", FOLDER)))
    learned, judged = (
        (_pictures(folder / f"{part}-images-idx3-ubyte.gz"),
         _labels(folder / f"{part}-labels-idx1-ubyte.gz"))
        for part in ("train", "t10k")
    )  # fmt: skip
    for pictures, labels in (learned, judged):
        if len(pictures) != len(labels):
            raise _unusable(f"{folder} has {len(pictures)} pictures and {len(labels)} labels")
    count = len(learned[0])
    purpose = np.zeros(count + len(judged[0]), np.int64)
    purpose[count - count // VALIDATION_SHARE : count] = 1
    purpose[count:] = 2
    labels = np.concatenate([learned[1], judged[1]])
    inputs = np.concatenate([learned[0], judged[0]])
    return divide(inputs, shifted(labels, workflow, CLASSES), purpose)


def _pictures(path: Path) -> NDArray[np.float32]:
    values = _idx(path, PICTURES, 16)
    if not len(values) or len(values) % (SIDE * SIDE):
        raise _unusable(f"{path} does not hold whole pictures of {SIDE}x{SIDE}")
    pictures: NDArray[np.float32] = np.divide(
        values.reshape(-1, 1, SIDE, SIDE), 255, dtype=np.float32
    )
    return pictures


def _labels(path: Path) -> NDArray[np.int64]:
    return _idx(path, LABELS, 8).astype(np.int64)


def _idx(path: Path, magic: int, header: int) -> NDArray[Any]:
    """The bytes after the header of an IDX file, which says what it is and how many follow."""
    try:
        with gzip.open(path) as file:
            content = file.read(LARGEST_FILE + 1)
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _unusable(f"{path} cannot be read: {reason}") from error
    if len(content) > LARGEST_FILE:
        raise _unusable(f"{path} unpacks to more than {LARGEST_FILE:,} bytes")
    if len(content) < header or int.from_bytes(content[:4], "big") != magic:
        raise _unusable(f"{path} is not an IDX file of this kind")
    shape = np.frombuffer(content[4:header], ">u4")
    if len(content) - header != int(shape.prod(dtype=np.int64)):
        raise _unusable(f"{path} is broken off: {len(content) - header} bytes of {shape.tolist()}")
    return np.frombuffer(content, np.uint8, offset=header)


def _unusable(what: str) -> InvalidInput:
    fault = Fault("data.options.folder", what)
    hint = "On Debian: apt install dataset-fashion-mnist. Elsewhere: name the files' folder."
    return InvalidInput(str(fault), (fault,), hint)
