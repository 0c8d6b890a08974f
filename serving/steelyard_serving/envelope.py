"""Whether rows lie outside the ranges of the training rows: a vectorised look before inference."""

from collections.abc import Mapping, Sequence

import numpy as np

from steelyard.domain.envelope import Envelope
from steelyard.domain.envelope_bounds import Bounds, bounds_of, fits, mask_outside, wrong_slots
from steelyard.domain.errors import InvalidInput
from steelyard.domain.model_version import Signature
from steelyard.domain.serving_policy import Outside
from steelyard_serving.protocols.faults import invalid
from steelyard_serving.protocols.tensors import DTYPES, Array

NAMED = 4
"""Most slots that a flag names."""


def prepared(envelope: Envelope | None, signature: Signature) -> tuple[Bounds, ...]:
    """What ``flags`` compares with, made once a replica; empty: nothing is checked.

    Inputs that the bounds do not fit are left out.
    """
    if envelope is None:
        return ()
    specs = {spec.name: spec for spec in signature.inputs if spec.datatype != "BYTES"}
    return tuple(
        bounds_of(one, DTYPES[specs[one.name].datatype])
        for one in envelope.inputs
        if one.name in specs and fits(one, specs[one.name].shape)
    )


def flags(
    bounds: Sequence[Bounds], inputs: Mapping[str, Array], outside: Outside
) -> str | None:  # fmt: skip
    """What is odd about the rows, for their record, as ``outside:input[3],input[7]+2``.

    It names slots and no value, because records outlive the inputs. None: nothing is odd, nothing
    is known of training, or the policy accepts everything.

    Raises:
        InvalidInput: the policy refuses; the message names the first value and its range.
    """
    if outside == "accept":
        return None
    found: list[str] = []
    for one in bounds:
        wrong = mask_outside(one, inputs[one.name])
        if wrong is None:
            continue
        if outside == "refuse":
            raise _refusal(one, inputs[one.name], wrong)
        found += [_place(one, slot) for slot in wrong_slots(one, wrong)]
    if not found:
        return None
    more = f"+{len(found) - NAMED}" if len(found) > NAMED else ""
    return f"outside:{','.join(found[:NAMED])}{more}"


def _place(bounds: Bounds, slot: int) -> str:
    return bounds.name if bounds.slots == "all" else f"{bounds.name}[{slot}]"


def _refusal(bounds: Bounds, values: Array, wrong: Array) -> InvalidInput:
    """Which value of which row it is, and what values there were in training."""
    index = np.unravel_index(int(wrong.argmax()), wrong.shape)
    slot = 0 if bounds.slots == "all" else int(index[1])
    low, high = bounds.low.reshape(-1)[slot], bounds.high.reshape(-1)[slot]
    some = bounds.values[slot] if bounds.values else ()
    known = f"one of {', '.join(map(str, some))}" if some else f"{low!s}..{high!s}"
    row = int(index[0]) if index else 0
    return invalid(
        _place(bounds, slot), f"{values[index]!s} in row {row} is outside: training had {known}"
    )
