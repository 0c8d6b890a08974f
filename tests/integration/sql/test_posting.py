import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steelyard.domain.facts import Fact
from steelyard.domain.metering import EnergyMethod, Resource, SupplyWindow, UsageWindow
from steelyard.domain.model_version import ModelVersion, Signature

from .conftest import Bookkeeping

pytestmark = pytest.mark.integration

SECOND = 1_000_000
HOUR = 3_600 * SECOND
UNITS = ("device_us", "nUSD", "mJ", "ugCO2e_loc")


def _replica(sku: str = "gpu-hour", device: str = "gpu", region: str | None = "DEU") -> Resource:
    return Resource("serve/shop/0", "replica", device, 1, 1, sku, 0, region)


def _hour(energy_mj: int | None = None) -> SupplyWindow:
    method: EnergyMethod = "unknown" if energy_mj is None else "metered_wall"
    return SupplyWindow("p", "boot", 0, "serve/shop/0", 0, HOUR, HOUR, energy_mj=energy_mj,
                        energy_method=method)  # fmt: skip


def _busy(seq: int, model: str, seconds: int) -> UsageWindow:
    return UsageWindow("p", "boot", seq, "serve/shop/0", 0, HOUR, model, 1, "inference", "serve",
                       requests=1, busy_ns=seconds * 10**9)  # fmt: skip


A, B, IDLE = "model:a/1:inference:serve", "model:b/1:inference:serve", "idle:serve/shop"


def test_a_shared_replica_is_paid_by_busy_time_and_idle_is_its_own_line(books: Bookkeeping) -> None:
    """An hour at $3, A busy 600 s and B 300 s: $0.50, $0.25, idle $2.25, pool empty (A11)."""
    books.post(_replica(), _hour(), _busy(0, "a", 600), _busy(1, "b", 300))
    assert books.balances("nUSD") == {
        A: 500_000_000, B: 250_000_000, IDLE: 2_250_000_000, "supply:serve/shop/0": -3_000_000_000,
    }  # fmt: skip
    assert books.roles("nUSD")["pool"] == 0


def test_modelled_energy_and_carbon_of_a_shared_replica(books: Bookkeeping) -> None:
    """100 W idle, 400 W at most, PUE 1.2, Germany: 0.21 kWh and 79,999,500 micrograms (A12)."""
    books.post(_replica(), _hour(), _busy(0, "a", 600), _busy(1, "b", 300))
    assert books.balances("mJ") == {
        A: 240_000_000, B: 120_000_000, IDLE: 270_000_000, "overhead:pue": 126_000_000,
        "supply:serve/shop/0": -756_000_000,
    }  # fmt: skip
    carbon = books.balances("ugCO2e_loc")
    assert carbon.pop("supply:serve/shop/0") == -79_999_500
    assert sum(carbon.values()) == 79_999_500


def test_a_wall_meter_wins_over_the_load_model(books: Bookkeeping) -> None:
    """700,000 J metered: idle keeps its floor, the rest follows busy time, exactly (A13)."""
    books.post(_replica(), _hour(700_000_000), _busy(0, "a", 600), _busy(1, "b", 300))
    found = books.balances("mJ")
    assert (found[IDLE], found[A], found[B]) == (270_000_000, 286_666_667, 143_333_333)


def test_a_split_loses_no_unit(books: Bookkeeping) -> None:
    """Ten cents over three equal users is 33,333,334 and twice 33,333,333 nano-dollars (A14)."""
    users = [_busy(n, model, 1_200) for n, model in enumerate("abc")]
    books.post(_replica("dime-hour"), _hour(), *users)
    amounts = [books.balances("nUSD")[f"model:{m}/1:inference:serve"] for m in "abc"]
    assert amounts == [33_333_334, 33_333_333, 33_333_333]


def test_what_has_no_price_is_not_posted_as_free(books: Bookkeeping) -> None:
    """Without price, load model and region, only device time is known."""
    books.post(_replica("unlisted", "unlisted", None), _hour(), _busy(0, "a", 600))
    assert {b.unit for b in books.ledger.balances()} == {"device_us"}


def test_more_work_than_time_is_clamped_to_the_reservation(books: Bookkeeping) -> None:
    """Clocks disagree; the parts still make exactly what was reserved."""
    books.post(_replica(), _hour(), _busy(0, "a", 5_000), _busy(1, "b", 2_500))
    assert books.balances("device_us") == {
        A: 2_400 * SECOND, B: 1_200 * SECOND, "supply:serve/shop/0": -HOUR,
    }  # fmt: skip


def test_posting_again_adds_nothing(books: Bookkeeping) -> None:
    """The collector may run at any time: a window is posted once."""
    facts = (_replica(), _hour(), _busy(0, "a", 600))
    assert books.post(*facts) > 0
    head = books.ledger.head()
    assert books.post(*facts) == 0
    assert books.ledger.head() == head


def test_a_window_that_arrives_late_is_posted_beside_the_others(books: Bookkeeping) -> None:
    """The second window of an hour makes its own batch and leaves the first as it is."""
    books.post(_replica(), _hour(), _busy(0, "a", 600))
    late = SupplyWindow("p", "boot", 1, "serve/shop/0", HOUR // 2, HOUR, HOUR // 2)
    assert books.post(late) > 0
    assert books.balances("nUSD")["supply:serve/shop/0"] == -4_500_000_000


def test_a_silent_replica_is_paid_until_one_heartbeat_after_its_last_word(
    books: Bookkeeping,
) -> None:
    """A killed replica leaves idle cost, not a hole; one that reported just now is left alone."""
    books.post(_replica(), _hour(), _busy(0, "a", 600))
    books.clock.at_us = HOUR + 60 * SECOND
    assert books.metering.close_silent(30.0) == 0
    books.clock.at_us = HOUR + 120 * SECOND
    assert books.metering.close_silent(30.0) == 1
    assert books.metering.close_silent(30.0) == 0
    books.books.post()
    assert books.balances("device_us")["supply:serve/shop/0"] == -HOUR - 30 * SECOND


def _train(seq: int, attempt: int) -> list[Fact]:
    start, end = seq * 60 * SECOND, (seq + 1) * 60 * SECOND
    return [
        Resource("train/run-1/0", "train_worker", "gpu", 1, 1, "gpu-hour", 0, "DEU"),
        SupplyWindow("run-1", "boot", seq, "train/run-1/0", start, end, 60 * SECOND),
        UsageWindow("run-1", "boot", seq, "train/run-1/0", start, end, "m", None, "training",
                    "train", "run-1", attempt, busy_ns=45 * 10**9),
    ]  # fmt: skip


def _version() -> ModelVersion:
    return ModelVersion("m", 1, "run-1", "runs:/run-1/model", "model.onnx", "d" * 64, 10, "base",
                        "trained", Signature((), ()), HOUR)  # fmt: skip


RUN, RUN_IDLE = "model:m:training:run/run-1:train", "idle:model:m:training:run/run-1"
VERSION, VERSION_IDLE = "model:m/1:training:train", "idle:model:m/1:training"


def test_a_run_s_cost_moves_to_the_version_it_made(books: Bookkeeping) -> None:
    """Failed attempts and idle time included; what the supply gave stays the same."""
    books.post(*_train(0, 1), *_train(1, 2))
    before = {unit: books.balances(unit) for unit in UNITS}
    assert before["nUSD"][RUN] == 75_000_000
    books.catalog.record_version(_version())
    assert books.books.post() > 0
    for unit in UNITS:
        after = books.balances(unit)
        assert (after[VERSION], after[VERSION_IDLE]) == (before[unit][RUN], before[unit][RUN_IDLE])
        assert RUN not in after and RUN_IDLE not in after
        assert after["supply:train/run-1/0"] == before[unit]["supply:train/run-1/0"]
    assert books.books.post() == 0


def test_a_run_s_late_window_follows_to_the_version(books: Bookkeeping) -> None:
    """A window that arrives after the registration moves too, and only that window."""
    books.catalog.record_version(_version())
    books.post(*_train(0, 1))
    books.clock.at_us += 60 * SECOND
    books.post(*_train(1, 1))
    assert books.balances("nUSD")[VERSION] == 75_000_000
    assert RUN not in books.balances("nUSD")
    assert books.ledger.first_break() is None


def test_two_who_post_at_once_post_once(books: Bookkeeping) -> None:
    """A person's report and the controller meet: each window and each run is charged once."""
    books.catalog.record_version(_version())
    for fact in [_replica(), _hour(), _busy(0, "a", 600), *_train(0, 1), *_train(1, 2)]:
        books.facts.ingest([fact], books.clock.at_us)
    barrier = threading.Barrier(4)

    def post(_: int) -> int:
        barrier.wait()
        return books.books.post()

    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(post, range(4)))
    assert sum(counts) == len(list(books.ledger.entries()))
    assert books.balances("nUSD")[VERSION] == 75_000_000
    assert books.balances("nUSD")["supply:serve/shop/0"] == -3_000_000_000
    assert RUN not in books.balances("nUSD")
    assert books.ledger.first_break() is None


@dataclass(frozen=True)
class Case:
    """One resource with its windows, and whether it has a price and a way to know its energy."""

    facts: tuple[Fact, ...]
    resource: Resource
    priced: bool
    reserved_us: int
    energy_known: bool


@st.composite
def _cases(draw: st.DrawFn, number: int) -> Case:
    priced, modelled = draw(st.booleans()), draw(st.booleans())
    devices, slots = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    resource = Resource(
        f"serve/r{number}/0", "replica", "gpu" if modelled else "unlisted", devices, slots,
        "gpu-hour" if priced else "unlisted", 0, draw(st.sampled_from(["DEU", None])),
    )  # fmt: skip
    facts: list[Fact] = [resource]
    reserved, metered, at, row = 0, modelled, 0, 0
    for seq in range(draw(st.integers(1, 3))):
        end = at + draw(st.integers(1, 2_000 * SECOND))
        energy = draw(st.none() | st.integers(0, 10**9))
        metered = metered or energy is not None
        reserved += (end - at) * devices
        facts.append(SupplyWindow(
            resource.resource_id, "boot", seq, resource.resource_id, at, end, (end - at) * devices,
            cpu_us=draw(st.none() | st.integers(0, end - at)), energy_mj=energy,
            energy_method="unknown" if energy is None else "counter_cpu",
        ))  # fmt: skip
        whose = st.sampled_from([("a", 1), ("a", 2), ("b", None)])
        for model, version in draw(st.lists(whose, unique=True, max_size=3)):
            facts.append(UsageWindow(
                resource.resource_id, "boot", row, resource.resource_id, at, end, model, version,
                "inference" if version else "training", "serve" if version else "train",
                None if version else "run-9", busy_ns=draw(st.integers(0, 3_000 * 10**9)),
            ))  # fmt: skip
            row += 1
        at = end
    return Case(tuple(facts), resource, priced, reserved, metered)


def _assert_conserved(books: Bookkeeping, cases: Sequence[Case]) -> None:
    entries = list(books.ledger.entries())
    balances = {unit: books.balances(unit) for unit in UNITS}
    for case in cases:
        supply, pool = f"supply:{case.resource.resource_id}", f"pool:{case.resource.resource_id}"
        assert balances["device_us"][supply] == -case.reserved_us
        assert case.priced or supply not in balances["nUSD"]
        assert case.energy_known or supply not in balances["mJ"]
        for unit in UNITS:
            moves = [e for e in entries if e["unit"] == unit]
            given = sum(e["amount"] for e in moves if e["credit"] == supply)
            used = sum(e["amount"] for e in moves if e["credit"] == pool)
            assert given == used == -balances[unit].get(supply, 0)
            assert pool not in balances[unit]
    assert all(sum(balances[unit].values()) == 0 for unit in UNITS)


@settings(
    max_examples=25, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(st.tuples(_cases(0), _cases(1)), st.integers(0, 2**32))
def test_whatever_was_measured_supply_equals_its_uses(
    new_books: Callable[[], Bookkeeping], cases: tuple[Case, Case], seed: int
) -> None:
    """Per resource and unit to the last unit; replays and other orders give the same balances."""
    facts = [fact for case in cases for fact in case.facts]
    books, other = new_books(), new_books()
    books.post(*facts)
    _assert_conserved(books, cases)
    assert books.post(*facts) == 0
    shuffled = facts * 2
    random.Random(seed).shuffle(shuffled)
    other.post(*shuffled)
    assert [other.balances(unit) for unit in UNITS] == [books.balances(unit) for unit in UNITS]
    assert books.ledger.first_break() is None
