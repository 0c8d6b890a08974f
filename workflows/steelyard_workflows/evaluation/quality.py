"""How often a version is right, and how often it says what its parent says."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Classes = NDArray[np.integer[Any]]


def accuracy(answers: Classes, labels: Classes) -> float:
    """Share of labels that were answered, in [0, 1]; a row may have several.

    >>> accuracy(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 0]))
    0.75
    """
    return float((answers == labels).mean())


def agreement(answers: Classes, parent: Classes) -> float:
    """Share of labels where the first choice is the parent's, right or wrong.

    >>> agreement(np.array([1, 2]), np.array([1, 0]))
    0.5
    """
    return float((answers == parent).mean())
