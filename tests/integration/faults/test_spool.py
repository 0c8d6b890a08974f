"""What a damaged disk, a wrong clock or a foreign hand does to the spool."""

import json
import os
from pathlib import Path

import pytest

from steelyard.adapters.spool import Producer, read, segments
from steelyard.domain.facts import Fact
from steelyard.domain.metering import BootEnd, Resource, SupplyWindow

from .conftest import Desk

pytestmark = [pytest.mark.integration, pytest.mark.alone]

SECOND = 1_000_000


def _resource(producer: Producer) -> Resource:
    return Resource(_name(producer), "replica", "generic-vcpu", 1, 1, "vcpu-hour", 0)


def _name(producer: Producer) -> str:
    return f"replica/m/1/{producer.boot_id}"


def _window(producer: Producer) -> SupplyWindow:
    seq = producer.next_seq()
    start = seq * 10 * SECOND
    return SupplyWindow(producer.producer_id, producer.boot_id, seq, _name(producer), start,
                        start + 10 * SECOND, 10 * SECOND)  # fmt: skip


@pytest.fixture
def producer(tmp_path: Path) -> Producer:
    """A replica's producer on the spool that the desk collects from."""
    return Producer(tmp_path / "spool", "replica:m/1")


def _written(producer: Producer, *facts: Fact) -> Path:
    path = producer.write(facts)
    assert path is not None
    return path


def test_a_boot_s_segments_are_read_in_its_order_when_the_clock_went_back(
    producer: Producer, tmp_path: Path
) -> None:
    """A resource is declared before its windows, whatever the files' times say."""
    paths = [_written(producer, _resource(producer))]
    paths += [_written(producer, _window(producer)) for _ in range(3)]
    for age, path in enumerate(paths):
        os.utime(path, ns=(10**18 - age, 10**18 - age))
    other = Producer(tmp_path / "spool", "replica:m/2")
    first = _written(other, _resource(other))
    os.utime(first, ns=(1, 1))
    assert segments(tmp_path / "spool") == [first, *paths]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_was_cut_off_in_the_middle_of_a_write_is_not_read(
    desk: Desk, producer: Producer, tmp_path: Path
) -> None:
    """A segment exists whole or not at all; the gap in the numbers shows what is gone."""
    _written(producer, _resource(producer), _window(producer))
    lost = _written(producer, _window(producer))
    lost.rename(lost.with_suffix(".partial"))
    _written(producer, producer.boot_end(1))
    assert desk.metering.collect().segments == 2
    found = desk.facts.completeness()
    assert (found.received, found.expected) == (1, 2)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "line",
    [
        '{"fact": "supply"',
        '"a word"',
        "[1, 2]",
        '{"fact": "rumour"}',
        '{"fact": "boot_end", "producer_id": "p", "boot_id": "b", "last_seq": 1.5, "ended_us": 1}',
        '{"fact": "boot_end", "producer_id": [1], "boot_id": "b", "last_seq": {}, "ended_us": 1}',
        '{"fact": "boot_end", "producer_id": "p", "boot_id": "b", "last_seq": "x", "ended_us": 1}',
        json.dumps({"fact": "boot_end", "producer_id": "p", "boot_id": "b", "last_seq": 2**70,
                    "ended_us": 1}),
        json.dumps({"fact": "supply", "producer_id": "p", "boot_id": "b", "seq": 1,
                    "resource_id": "nobody's", "window_start_us": 0, "window_end_us": 1,
                    "reserved_us": 1}),
    ],
)  # fmt: skip
def test_a_segment_that_cannot_be_stored_is_kept_aside_and_blocks_nobody(
    desk: Desk, producer: Producer, tmp_path: Path, line: str
) -> None:
    """Those before and behind it are collected; a person finds it under another name."""
    spool = tmp_path / "spool"
    _written(producer, _resource(producer), _window(producer))
    bad = spool / f"{'0' * 32}-00000001.jsonl"
    bad.write_text(line + "\n")
    _written(producer, _window(producer))
    collected = desk.metering.collect()
    assert (collected.segments, collected.damaged) == (2, 1)
    assert [path.name for path in spool.iterdir()] == [bad.with_suffix(".damaged").name]
    assert desk.metering.collect().damaged == 0
    assert desk.facts.completeness().received == 2


def test_a_producer_s_last_word_is_its_last_number(producer: Producer) -> None:
    """Numbers that were given and never written are missing, and known to be."""
    _window(producer)
    path = _written(producer, _window(producer), producer.boot_end(7))
    assert read(path)[-1] == BootEnd("replica:m/1", producer.boot_id, last_seq=2, ended_us=7)
