"""What producers write is what the collector reads."""

import errno
import json
import os
import random
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from steelyard.adapters.spool import Producer, read, segments
from steelyard.domain.audit import PredictionRecord
from steelyard.domain.audit_chain import COMMON, SegmentSeal, record_fields, segment_digest
from steelyard.domain.hash_chain import GENESIS
from steelyard.domain.metering import UsageWindow

RECORD = PredictionRecord(
    prediction_id="p\n1", model="digits", version=3, sha256="d" * 64, resource_id="replica/1",
    arm="canary", lineage="r1", generation=4, bucket=17, received_us=1_000, busy_ns=5, items=2,
    status=200, classes=(1, 0), error="Zürich, \"20\" °C",
)  # fmt: skip
WINDOW = UsageWindow("p", "b", 1, "r", 0, 1, "m", 1, "inference", "serve", datatype="fp32")


def _common_and_own(record: PredictionRecord) -> tuple[dict[str, object], dict[str, object]]:
    row: dict[str, object] = record_fields(record)
    return {name: row.pop(name) for name in COMMON}, row


def test_a_fact_encoded_in_two_parts_is_the_same_fact(tmp_path: Path) -> None:
    """The common fields, encoded once, and each fact's own make the line of the whole fact."""
    producer = Producer(tmp_path, "replica:digits/3")
    common, own = _common_and_own(RECORD)
    line = producer.form(PredictionRecord, common).line(own)
    parts, whole = producer.write([], [line]), producer.write([RECORD])
    assert parts is not None and whole is not None
    assert read(parts)[:-1] == read(whole) == [RECORD]


def test_a_number_beyond_64_bits_is_kept_to_the_last_digit(tmp_path: Path) -> None:
    """FLOPs of a large model, and a bucket that a stranger made up, are whole numbers too."""
    producer = Producer(tmp_path, "replica:digits/3")
    window = UsageWindow("p", "b", 1, "r", 0, 1, "m", 1, "inference", "serve", flop=10**24 + 1)
    common, own = _common_and_own(RECORD)
    line = producer.form(PredictionRecord, common).line({**own, "bucket": 2**70})
    path = producer.write([window], [line])
    assert path is not None
    found = read(path)
    assert found[0] == window
    assert isinstance(found[1], PredictionRecord)
    assert found[1].bucket == 2**70


def test_a_segment_of_an_older_producer_is_read(tmp_path: Path) -> None:
    """Before windows had a datatype they had no word for it: it is not known, the rest is."""
    producer = Producer(tmp_path, "replica:digits/3")
    window = UsageWindow("p", "b", 1, "r", 0, 1, "m", 1, "inference", "serve", datatype="fp32")
    path = producer.write([window])
    assert path is not None
    row = json.loads(path.read_text())
    assert row.pop("datatype") == "fp32"
    path.write_text(json.dumps(row) + "\n")
    (found,) = read(path)
    assert found == replace(window, datatype=None)


def test_nothing_to_tell_leaves_no_segment(tmp_path: Path) -> None:
    """A segment holds at least one fact; encoded lines alone are enough."""
    producer = Producer(tmp_path, "replica:digits/3")
    assert producer.write([]) is None
    common, own = _common_and_own(RECORD)
    path = producer.write([], [producer.form(PredictionRecord, common).line(own)])
    assert path is not None
    assert read(path)[:-1] == [RECORD]


def test_a_boot_whose_last_segment_is_collected_meanwhile_is_not_a_fault(tmp_path: Path) -> None:
    """A segment may go between the listing of the folder and the question when it was written."""
    (tmp_path / "other-000001.jsonl").touch()
    (tmp_path / "gone-000001.jsonl").symlink_to(tmp_path / "removed")
    assert segments(tmp_path) == [tmp_path / "other-000001.jsonl"]


def test_segments_with_predictions_are_sealed_one_onto_the_other(tmp_path: Path) -> None:
    """Each seal holds the digest of the one before; segments of windows alone are not counted."""
    producer = Producer(tmp_path, "replica:digits/3")
    common, own = _common_and_own(RECORD)
    form = producer.form(PredictionRecord, common)
    lines = [form.line({**own, "prediction_id": f"p{n}"}) for n in range(5)]
    first = producer.write([WINDOW], lines[:2])
    producer.write([WINDOW])
    second = producer.write([], lines[2:])
    assert first is not None and second is not None
    seals = [read(path)[-1] for path in (first, second)]
    digests = [segment_digest(producer.boot_id, 1, GENESIS, lines[:2])]
    digests.append(segment_digest(producer.boot_id, 2, digests[0], lines[2:]))
    told = [(s.number, s.count, s.previous, s.digest) for s in seals if isinstance(s, SegmentSeal)]
    assert told == [(1, 2, GENESIS, digests[0]), (2, 3, digests[0], digests[1])]


def test_a_segment_that_is_there_keeps_its_number_though_its_folder_is_not_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails between the rename and the folder's sync: the last word comes after it."""
    producer = Producer(tmp_path, "replica:digits/3")
    common, own = _common_and_own(RECORD)
    line = producer.form(PredictionRecord, common).line(own)
    synced = os.fsync

    def fails(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "the folder")
        synced(descriptor)

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="the folder"):
            producer.write([], [line])
    producer.write([], [line])
    seals = [read(path)[-1] for path in segments(tmp_path)]
    assert [one.number for one in seals if isinstance(one, SegmentSeal)] == [1, 2]


def test_a_flipped_bit_of_a_sealed_segment_is_found(tmp_path: Path) -> None:
    """Any bit of any line: windows, predictions, the seal itself. 1,000 of them are tried."""
    producer = Producer(tmp_path, "replica:digits/3")
    common, own = _common_and_own(RECORD)
    form = producer.form(PredictionRecord, common)
    path = producer.write([WINDOW], [form.line({**own, "prediction_id": f"p{n}"}) for n in "ab"])
    assert path is not None
    sound = path.read_bytes()
    assert len(read(path)) == 4
    chosen = random.Random(7)
    for place in chosen.sample(range(len(sound) * 8), 1_000):
        changed = bytearray(sound)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=path.stem):
            read(path)
    path.write_bytes(sound[:-1])
    with pytest.raises(ValueError, match="not whole"):
        read(path)
