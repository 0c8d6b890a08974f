"""How much of a classifier's answer a key is told: all, the label alone, or the best scores.

An output keeps its name, type and shape, so that every client reads it. Rounding scores would
not be privacy, and is not offered: a few more questions bring the lost digits back.
"""

from collections.abc import Mapping

import numpy as np

from steelyard.domain.api_key import ApiKey
from steelyard.domain.model_version import Signature
from steelyard_serving.protocols.tensors import Array


def cut(key: ApiKey, outputs: Mapping[str, Array], signature: Signature) -> Mapping[str, Array]:
    """The outputs as a key is told them that is not told all; pure, the arrays stay as they are.

    Scores are the outputs of floats with at least two dimensions and two classes: along the last
    dimension, from four dimensions on along the second, as torch has them. Other outputs are not
    a classifier's scores, and told as they are.

    ``label``: 1 for the greatest score, the first of several, and 0 for the others. ``top``: the
    greatest scores as they are. The others become 0; where any score is negative, as those of
    logits are, the least number of the type, for 0 would be greater than some of those told.
    """
    told = dict(outputs)
    for spec in signature.outputs:
        value = told.get(spec.name)
        if value is not None and value.dtype.kind == "f" and value.ndim >= 2:
            axis = 1 if value.ndim >= 4 else value.ndim - 1
            if value.shape[axis] >= 2:
                told[spec.name] = _cut(key, value, axis)
    return told


def _cut(key: ApiKey, value: Array, axis: int) -> Array:
    if axis != value.ndim - 1:
        return np.moveaxis(_cut(key, np.moveaxis(value, axis, -1), value.ndim - 1), -1, axis)
    rows = value.reshape(-1, value.shape[-1])
    made = _label(rows) if key.told == "label" else _top(rows, key.top)
    return made.reshape(value.shape)


def _label(rows: Array) -> Array:
    is_label: Array = np.arange(rows.shape[1]) == rows.argmax(axis=1)[:, None]
    return is_label.astype(rows.dtype)


def _top(rows: Array, top: int) -> Array:
    best = (-rows).argsort(axis=1, kind="stable")[:, :top]
    at = np.arange(len(rows))[:, None], best
    made = np.zeros_like(rows)
    made[rows.min(axis=1) < 0] = np.finfo(rows.dtype).min
    made[at] = rows[at]
    return made
