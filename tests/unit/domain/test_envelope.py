import json

import pytest

from steelyard.domain.envelope import (
    Envelope,
    InputBounds,
    envelope_digest,
    envelope_of,
    text_of,
)
from steelyard.domain.errors import InvalidInput

ENVELOPE = Envelope(
    (InputBounds("x", "feature", (0.1, -2), (1e300, 7), ((), (-2, 3, 7))),), 100, 20, 3
)


@pytest.mark.parametrize(
    "envelope", [ENVELOPE, Envelope((InputBounds("tokens", "all", (0,), (2**60,)),), 5)]
)
def test_an_envelope_is_its_text(envelope: Envelope) -> None:
    """Numbers come back exactly, whole ones as such, and so does what nobody knows."""
    assert envelope_of(text_of(envelope)) == envelope
    assert envelope_digest(envelope_of(text_of(envelope))) == envelope_digest(envelope)


@pytest.mark.parametrize(
    "change",
    [{"schema": 2}, {"inputs": None}, {"rows": "many"}, {"inputs": [{"name": "x"}]},
     {"inputs": [{"name": "x", "slots": "feature", "low": [0], "high": [1, 2]}]},
     {"inputs": [{"name": "x", "slots": "row", "low": [0], "high": [1]}]},
     {"inputs": [{"name": "x", "slots": "all", "low": [], "high": []}]},
     {"inputs": [{"name": "x", "slots": "all", "low": [float("nan")], "high": [1]}]},
     {"inputs": [{"name": "x", "slots": "all", "low": [0], "high": [10**9],
                  "values": [[0, 10**9]]}]},
     {"inputs": [{"name": "x", "slots": "all", "low": ["0"], "high": [1]}]},
     {"inputs": [{"name": "x", "slots": "all", "low": [2], "high": [1]}]},
     {"inputs": [{"name": "x", "slots": "all", "low": [0], "high": [9], "values": [[1], [2]]}]}],
)  # fmt: skip
def test_what_is_no_envelope_is_refused(change: dict[str, object]) -> None:
    """Of another schema, or slots that do not fit together."""
    body = json.loads(text_of(ENVELOPE)) | change
    with pytest.raises(InvalidInput):
        envelope_of(json.dumps(body))


def test_what_is_no_json_is_refused() -> None:
    """As is what is JSON and no object."""
    for text in ("", "{", "3", "null"):
        with pytest.raises(InvalidInput, match="cannot be read"):
            envelope_of(text)
