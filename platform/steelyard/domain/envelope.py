"""What a version's training rows were like: the bounds of its inputs, kept with the version.

A row outside of them is one that the version never learned about. Bounds are per feature where
features mean different things, and for all of an input where they mean the same.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from steelyard.domain.errors import InvalidInput

SCHEMA = 1
LARGEST_BYTES = 65_536
"""Most bytes of an envelope's text."""
SPAN = 1_024
"""Greatest distance between the bounds of a slot whose values are kept one by one."""
Slots = Literal["feature", "channel", "all"]
Number = float | int


@dataclass(frozen=True, slots=True)
class InputBounds:
    """The bounds of one input tensor, in slots: one a feature, one a channel, or one for all.

    ``feature``: along the last of two dimensions; ``channel``: along the second of four. ``low``
    and ``high`` are the least and greatest value of each slot, both inside, as the shortest
    decimal that is exact in the input's own type. ``values`` are all values of a slot of whole
    numbers where they were few and have gaps; empty: every value between the bounds is inside.
    """

    name: str
    slots: Slots
    low: tuple[Number, ...]
    high: tuple[Number, ...]
    values: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Envelope:
    """The bounds of ``rows`` training rows.

    ``outside`` of ``judged`` rows that were not learned from are outside of it: how often a row
    like those of training is flagged. None: there were none to judge by.
    """

    inputs: tuple[InputBounds, ...]
    rows: int
    judged: int | None = None
    outside: int | None = None


def text_of(envelope: Envelope) -> str:
    """The canonical JSON text, by whose bytes it is known."""
    inputs = [
        {key: value for key, value in asdict(one).items() if value != ()} for one in envelope.inputs
    ]
    body = {"schema": SCHEMA, "inputs": inputs, "rows": envelope.rows}
    if envelope.judged is not None:
        body |= {"judged": envelope.judged, "outside": envelope.outside}
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def envelope_digest(envelope: Envelope) -> str:
    """SHA-256 of the text, in hexadecimal."""
    return hashlib.sha256(text_of(envelope).encode()).hexdigest()


def envelope_of(text: str) -> Envelope:
    """The envelope that a text is of.

    Raises:
        InvalidInput: it is none, of another schema, or its slots do not fit together.
    """
    try:
        body = json.loads(text)
        if body["schema"] != SCHEMA:
            raise InvalidInput(f"The envelope has schema {body['schema']}, this reads {SCHEMA}.")
        inputs = tuple(_bounds(one) for one in body["inputs"])
        return Envelope(inputs, int(body["rows"]), body.get("judged"), body.get("outside"))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidInput(f"The envelope cannot be read: {error}.") from error


def _bounds(row: Mapping[str, Any]) -> InputBounds:
    values = tuple(tuple(one) for one in row.get("values", ()))
    made = InputBounds(row["name"], row["slots"], tuple(row["low"]), tuple(row["high"]), values)
    if not _is_sound(made):
        raise InvalidInput(f"The bounds of {made.name} do not fit together.")
    return made


def _is_sound(made: InputBounds) -> bool:
    count = len(made.low)
    return (
        made.slots in ("feature", "channel", "all")
        and 0 < count == len(made.high)
        and all(type(number) in (int, float) for number in (*made.low, *made.high))
        and all(low <= high for low, high in zip(made.low, made.high, strict=True))
        and len(made.values) in (0, count)
        and all(map(_are_between, made.low, made.high, made.values))
    )


def _are_between(low: Number, high: Number, values: tuple[int, ...]) -> bool:
    """Whether a slot's values, if there are any, go from one bound to the other, not too far."""
    return not values or ((values[0], values[-1]) == (low, high) and high - low <= SPAN)
