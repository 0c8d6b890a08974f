import random
from typing import Any

import pytest
from sqlalchemy import Engine, select

from steelyard.adapters.sql.facts import FactStore, Ingested
from steelyard.adapters.sql.tables import audit, measured
from steelyard.domain.audit import PredictionRecord
from steelyard.domain.facts import Fact
from steelyard.domain.metering import (
    Resource,
    ResourceEnd,
    RunAttempt,
    SupplyWindow,
    UsageWindow,
)

pytestmark = pytest.mark.integration

SECOND = 1_000_000
TABLES = (
    measured.resource,
    measured.resource_end,
    measured.run_attempt,
    measured.supply_window,
    measured.usage_window,
    audit.prediction,
)


def _supply(n: int, reserved_us: int = 10 * SECOND, **more: Any) -> SupplyWindow:
    start = n * 10 * SECOND
    return SupplyWindow("p", "boot", n, "serve/m/1/0", start, start + 10 * SECOND, reserved_us,
                        **more)  # fmt: skip


def _usage(n: int, requests: int = 5, flop: int | None = None) -> UsageWindow:
    start = n * 10 * SECOND
    return UsageWindow("p", "boot", n, "serve/m/1/0", start, start + 10 * SECOND, "m", 1,
                       "inference", "serve", requests=requests, flop=flop)  # fmt: skip


def _facts() -> list[Fact]:
    facts: list[Fact] = [
        Resource("serve/m/1/0", "replica", "cpu", 1, 1, "sku", 0),
        ResourceEnd("serve/m/1/0", 50 * SECOND),
        RunAttempt("run", 1, "m", "failed", 0, 1),
        PredictionRecord("p-1", "m", 1, "d" * 64, "serve/m/1/0", "stable", "-", 1, 3, 1, 2, 1, 200,
                         classes=(7,)),
    ]  # fmt: skip
    for n in range(5):
        facts += [_supply(n), _usage(n)]
    return facts


def _stored(engine: Engine) -> dict[str, list[Any]]:
    """Everything but the time of arrival."""
    with engine.connect() as connection:
        return {
            table.name: sorted(
                connection.execute(select(*(c for c in table.c if c.name != "received_us"))).all(),
                key=str,
            )
            for table in TABLES
        }


def test_repeated_and_shuffled_reports_store_the_same_facts(engine: Engine) -> None:
    """A producer may send everything again, in any order and twice at once."""
    store = FactStore(engine)
    facts = _facts()
    assert store.ingest(facts, 1) == Ingested(new=14, known=0, conflicts=0)
    once = _stored(engine)
    again = facts * 2
    random.Random(7).shuffle(again)
    assert store.ingest(again, 2) == Ingested(new=0, known=28, conflicts=0)
    assert _stored(engine) == once


def test_duplicates_within_one_report_count_once(engine: Engine) -> None:
    """A segment that holds the same rows twice stores them once."""
    facts = _facts()
    again = facts[4:] + facts + facts
    assert FactStore(engine).ingest(again, 1).new == len(facts)
    assert sum(len(rows) for rows in _stored(engine).values()) == len(facts)


@pytest.mark.parametrize("together", [True, False])
def test_other_content_under_a_known_key_is_kept_aside(engine: Engine, together: bool) -> None:
    """The first report stands, the other is an alarm, whether it comes later or at once (A15)."""
    store = FactStore(engine)
    store.ingest(_facts()[:1], 1)
    first, other = _usage(0, requests=5), _usage(0, requests=500)
    if together:
        assert store.ingest([first, other], 1).conflicts == 1
    else:
        store.ingest([first], 1)
        assert store.ingest([other], 2) == Ingested(new=0, known=0, conflicts=1)
    assert store.conflicts() == 1
    assert store.usage("m")[0].requests == 5
    store.ingest([other], 3)
    assert store.conflicts() == 1


def test_a_reused_sequence_number_is_kept_aside(engine: Engine) -> None:
    """Two windows cannot be row 0 of the same boot of the same producer."""
    store = FactStore(engine)
    store.ingest([*_facts()[:1], _supply(0)], 1)
    impostor = SupplyWindow("p", "boot", 0, "serve/m/1/0", 90 * SECOND, 95 * SECOND, 5 * SECOND)
    assert store.ingest([impostor], 2) == Ingested(new=0, known=0, conflicts=1)


def test_unknown_energy_stays_unknown(engine: Engine) -> None:
    """NULL is kept as NULL, and a measured 0 as 0."""
    FactStore(engine).ingest(
        [*_facts()[:1], _supply(0), _supply(1, energy_mj=0, energy_method="counter_cpu")], 1
    )
    with engine.connect() as connection:
        s = measured.supply_window
        rows = connection.execute(select(s.c.energy_mj, s.c.cpu_us).order_by(s.c.seq)).all()
    assert [tuple(row) for row in rows] == [(None, None), (0, None)]


def test_flops_beyond_64_bits_are_summed_exactly(engine: Engine) -> None:
    """Training runs of 10^25 FLOPs lose no digit, and an uncounted window is not 0."""
    store = FactStore(engine)
    store.ingest(_facts()[:1], 1)
    store.ingest([_usage(0)], 1)
    assert store.usage("m")[0].flop is None
    store.ingest([_usage(1, flop=10**25 + 1), _usage(2, flop=10**25 + 2)], 1)
    day = store.usage("m")[0]
    assert (day.flop, day.flop_windows, day.windows) == (2 * 10**25 + 3, 2, 3)


def test_a_silent_resource_is_named_with_its_last_moment(engine: Engine) -> None:
    """A replica without an end and without news; one that said goodbye is not silent."""
    store = FactStore(engine)
    gone = Resource("serve/m/1/1", "replica", "cpu", 1, 1, "sku", 0)
    store.ingest([*_facts(), gone], 1)
    assert store.silent_resources(60 * SECOND) == [(gone, 0)]
    assert store.silent_resources(0) == []
