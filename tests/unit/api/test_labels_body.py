import json
from hashlib import sha256

import pytest

from steelyard.api.labels import read_labels
from steelyard.domain.errors import InvalidInput
from steelyard.domain.labels import MOST_LABELS


def _body(labels: object, source: object = "test") -> bytes:
    return json.dumps({"labels": labels, "source": source}).encode()


def test_a_well_formed_body_is_read() -> None:
    """One true class a row of the prediction."""
    given = read_labels(_body([{"prediction_id": "a", "classes": [3, 0]}]))
    assert given.labels[0].classes == [3, 0]
    assert given.source == "test"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"labels": [], "source": "x"}',
        _body([{"prediction_id": "", "classes": [1]}]),
        _body([{"prediction_id": "a", "classes": []}]),
        _body([{"prediction_id": "a", "classes": ["3"]}]),
        _body([{"prediction_id": "a", "classes": [True]}]),
        _body([{"prediction_id": "a", "classes": [-1]}]),
        _body([{"prediction_id": "a", "classes": [3.5]}]),
        _body([{"prediction_id": "a", "classes": [1], "extra": 1}]),
        _body([{"prediction_id": 7, "classes": [1]}]),
        _body([{"prediction_id": "a", "classes": [1]}], source=""),
        _body([{"prediction_id": "a", "classes": [1]}], source=None),
        _body([{"prediction_id": str(n), "classes": [1]} for n in range(MOST_LABELS + 1)]),
    ],
)
def test_a_malformed_body_is_refused_with_its_faults(body: bytes) -> None:
    """Nothing is guessed: a text is not a number, and an unknown key is not ignored."""
    with pytest.raises(InvalidInput) as caught:
        read_labels(body)
    assert caught.value.faults
    assert "Expected" in caught.value.hint


def test_a_prediction_with_two_labels_in_one_body_is_refused() -> None:
    """Which of the two would count depended on their order; the same one twice is harmless."""
    two = [{"prediction_id": "a", "classes": [1]}, {"prediction_id": "a", "classes": [2]}]
    with pytest.raises(InvalidInput) as caught:
        _ = read_labels(_body(two)).found
    assert [str(fault) for fault in caught.value.faults] == [
        "row 2: contradicts an earlier row of a"
    ]
    assert len(read_labels(_body([two[0]] * 2)).found) == 1


def test_a_label_is_of_a_prediction_or_of_a_unit() -> None:
    """Of neither or of both is nobody's."""
    for wrong in ({"classes": [1]}, {"prediction_id": "a", "unit": "ada", "classes": [1]}):
        with pytest.raises(InvalidInput):
            _ = read_labels(_body([wrong])).found
    (label,) = read_labels(_body([{"unit": "ada", "classes": [1]}])).found
    assert label.unit_sha256 == sha256(b"ada").hexdigest()
