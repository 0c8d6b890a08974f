import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from steelyard.domain.errors import NotFound, Refused
from steelyard.domain.facts import Fact
from steelyard.domain.ledger import Posting
from steelyard.domain.metering import Resource, RunAttempt, SupplyWindow, UsageWindow
from steelyard.domain.model_version import ModelVersion, Signature

from .conftest import Bookkeeping

pytestmark = pytest.mark.integration

SECOND = 1_000_000
HOUR = 3_600 * SECOND
UNITS = ("device_us", "nUSD", "mJ", "ugCO2e_loc")
REPLICA = Resource("serve/shop/0", "replica", "gpu", 1, 1, "gpu-hour", 0, "DEU")


def _supply(seq: int, start: int = 0, length: int = HOUR) -> SupplyWindow:
    return SupplyWindow("p", "boot", seq, "serve/shop/0", start, start + length, length)


def _busy(seq: int, model: str, seconds: int, start: int = 0, length: int = HOUR) -> UsageWindow:
    return UsageWindow("p", "boot", seq, "serve/shop/0", start, start + length, model, 1,
                       "inference", "serve", requests=1, busy_ns=seconds * 10**9)  # fmt: skip


def _all(books: Bookkeeping) -> dict[str, dict[str, int]]:
    return {unit: books.balances(unit) for unit in UNITS}


def _batch_ids(books: Bookkeeping) -> list[str]:
    return list(dict.fromkeys(entry["batch_id"] for entry in books.ledger.entries()))


def test_a_reversal_restores_every_balance(books: Bookkeeping) -> None:
    """Each batch of an hour taken back: every account stands where it stood before (A17)."""
    books.post(REPLICA, _supply(1), _busy(2, "a", 600))
    before = _all(books)
    books.post(_supply(3, HOUR), _busy(4, "a", 300, HOUR))
    for batch_id in _batch_ids(books)[2:]:
        assert books.books.reverse(batch_id, "wrong price sheet", "ada") > 0
    assert _all(books) == before
    assert books.ledger.first_break() is None


def test_a_second_reversal_is_refused(books: Bookkeeping) -> None:
    """What was taken back is not taken back again, nor is a reversal; the ledger stays (A17)."""
    books.post(REPLICA, _supply(1))
    first = _batch_ids(books)[0]
    books.books.reverse(first, "mistake", "ada")
    head = books.ledger.head()
    with pytest.raises(Refused, match="reversed before"):
        books.books.reverse(first, "again", "ada")
    with pytest.raises(Refused, match="is a reversal"):
        books.books.reverse(_batch_ids(books)[-1], "undo the undoing", "ada")
    with pytest.raises(NotFound, match="no batch"):
        books.books.reverse("0" * 32, "typo", "ada")
    assert books.ledger.head() == head


def test_of_two_who_reverse_at_once_one_is_refused(books: Bookkeeping) -> None:
    """The mirror image is written once, and the other person is told."""
    books.post(REPLICA, _supply(1))
    batch_id = _batch_ids(books)[0]

    def reverse(actor: str) -> int:
        try:
            return books.books.reverse(batch_id, "mistake", actor)
        except Refused:
            return 0

    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(reverse, "abcd"))
    assert sum(count > 0 for count in counts) == 1
    assert "supply:serve/shop/0" not in books.balances("device_us")


def test_a_mirror_image_is_posted_once_even_by_its_own_batch(books: Bookkeeping) -> None:
    """The store, too, leaves out what is void: a batch that was replaced meanwhile."""
    books.post(REPLICA, _supply(1))
    posting = Posting((), replaces=(_batch_ids(books)[0],), reason="mistake")
    assert books.ledger.post([posting, posting], 10) > 0
    assert books.ledger.post([posting], 11) == 0
    assert books.ledger.first_break() is None


def test_what_a_person_took_back_does_not_return_with_late_usage(books: Bookkeeping) -> None:
    """Late usage charges its hour anew, but not windows whose charge was reversed by hand."""
    books.post(REPLICA, _supply(1))
    for batch_id in _batch_ids(books):
        books.books.reverse(batch_id, "the machine was free of charge", "ada")
    assert books.post(_busy(2, "a", 600)) == 0
    assert not any(_all(books).values())


def test_late_usage_takes_its_share_from_idle(books: Bookkeeping) -> None:
    """Posted as idle, then charged: supply stays, the hour is as if it had come in time (A17)."""
    books.post(REPLICA, _supply(1), _busy(2, "a", 600))
    assert books.post(_busy(3, "b", 300)) > 0
    assert books.balances("nUSD") == {
        "model:a/1:inference:serve": 500_000_000, "model:b/1:inference:serve": 250_000_000,
        "idle:serve/shop": 2_250_000_000, "supply:serve/shop/0": -3_000_000_000,
    }  # fmt: skip
    assert books.books.post() == 0
    assert books.ledger.first_break() is None


def test_idle_time_before_the_first_request_belongs_to_whom_it_waited_for(
    books: Bookkeeping,
) -> None:
    """A replica that was posted while it still loaded its model waited for that model."""
    books.post(REPLICA, _supply(1))
    assert books.balances("nUSD")["idle:serve/shop"] == 3_000_000_000
    books.post(_supply(2, HOUR), _busy(3, "a", 600, HOUR))
    assert books.balances("nUSD") == {
        "model:a/1:inference:serve": 500_000_000, "idle:model:a/1:inference": 5_500_000_000,
        "supply:serve/shop/0": -6_000_000_000,
    }  # fmt: skip
    assert {b.account.model for b in books.ledger.balances("a")} == {"a"}
    assert books.books.post() == 0


def test_a_replica_that_turns_out_to_be_shared_keeps_its_idle_time_to_itself(
    books: Bookkeeping,
) -> None:
    """With a second tenant, nobody owns the waiting any more, in earlier hours too."""
    books.post(REPLICA, _supply(1), _busy(2, "a", 600))
    assert books.balances("nUSD")["idle:model:a/1:inference"] == 2_500_000_000
    books.post(_supply(3, HOUR), _busy(4, "b", 600, HOUR))
    money = books.balances("nUSD")
    assert money["idle:serve/shop"] == 5_000_000_000
    assert "idle:model:a/1:inference" not in money


def _trained(run: str, version: int) -> ModelVersion:
    return ModelVersion("m", version, run, f"runs:/{run}/model", "model.onnx", "d" * 64, 10,
                        "base", "trained", Signature((), ()), HOUR)  # fmt: skip


def _training(run: str, seconds: int, outcome: str = "ok") -> tuple[list[Fact], UsageWindow]:
    name = f"train/{run}/1"
    usage = UsageWindow(run, "boot", 2, name, 0, HOUR, "m", None, "training", "train", run, 1,
                        busy_ns=seconds * 10**9)  # fmt: skip
    return [
        Resource(name, "train_worker", "gpu", 1, 1, "gpu-hour", 0, "DEU"),
        SupplyWindow(run, "boot", 1, name, 0, HOUR, HOUR),
        RunAttempt(run, 1, "m", outcome, 0, HOUR),  # type: ignore[arg-type]
    ], usage


@pytest.mark.parametrize("late", [False, True])
def test_a_run_s_late_usage_reaches_the_version_it_made(books: Bookkeeping, late: bool) -> None:
    """Moved before or after its usage arrived: the version's balances are the same."""
    facts, usage = _training("run-1", 2_700)
    books.catalog.record_version(_trained("run-1", 1))
    early = UsageWindow("run-1", "boot", 3, "train/run-1/1", 0, HOUR, "m", None, "training",
                        "evaluate", "run-1", 1, busy_ns=60 * 10**9)  # fmt: skip
    books.post(*facts, early, *([] if late else [usage]))
    books.clock.at_us += SECOND
    books.post(usage)
    assert books.balances("nUSD") == {
        "model:m/1:training:train": 2_250_000_000, "model:m/1:training:evaluate": 50_000_000,
        "idle:model:m/1:training": 700_000_000, "supply:train/run-1/1": -3_000_000_000,
    }  # fmt: skip
    assert books.books.post() == 0


def test_a_failed_run_s_cost_goes_to_the_next_version(books: Bookkeeping) -> None:
    """Until there is one, it is the model's failures, and no run keeps a balance."""
    facts, usage = _training("run-1", 1_800, "failed")
    books.post(*facts, usage)
    assert books.balances("nUSD")["model:m:training:failed:train"] == 1_500_000_000
    facts, usage = _training("run-2", 3_600)
    books.catalog.record_version(_trained("run-2", 1))
    books.clock.at_us += SECOND
    books.post(*facts, usage)
    assert {k: v for k, v in books.balances("nUSD").items() if "supply" not in k} == {
        "model:m/1:training:train": 4_500_000_000, "idle:model:m/1:training": 1_500_000_000,
    }  # fmt: skip


def test_a_window_across_a_price_change_pays_each_part_at_its_price(books: Bookkeeping) -> None:
    """23:30-00:30 across $2 -> $3 an hour is $2.50 (A14)."""
    books.price("gpu-hour", 2_000_000_000, 1, 1)
    books.price("gpu-hour", 3_000_000_000, 24 * HOUR, 2)
    books.clock.at_us = 48 * HOUR
    books.post(REPLICA, _supply(1, 24 * HOUR - HOUR // 2))
    assert books.balances("nUSD")["supply:serve/shop/0"] == -2_500_000_000


def test_valuing_anew_changes_money_and_no_energy(books: Bookkeeping) -> None:
    """A price that was known too late: one reversal, one new value, quantities as they were."""
    books.post(REPLICA, _supply(1), _busy(2, "a", 600))
    before, entries = _all(books), len(list(books.ledger.entries()))
    books.price("gpu-hour", 6_000_000_000, 0, HOUR)
    assert books.books.value_anew(0, HOUR).hours == 1
    after = _all(books)
    assert (after["device_us"], after["mJ"]) == (before["device_us"], before["mJ"])
    assert after["nUSD"] == {path: 2 * amount for path, amount in before["nUSD"].items()}
    assert {e["unit"] for e in books.ledger.entries(entries + 1)} == {"nUSD", "ugCO2e_loc"}
    assert books.books.value_anew(0, HOUR).hours == 0


def test_two_who_value_anew_at_once_value_once(books: Bookkeeping) -> None:
    """Also when the hour had no value before, so that there is nothing to reverse."""
    books.post(Resource("serve/shop/0", "replica", "none", 1, 1, "later-hour", 0), _supply(1))
    assert books.balances("nUSD") == {}
    books.price("later-hour", 10**9, recorded_us=1, kind="spot")
    barrier = threading.Barrier(4)

    def value(_: int) -> int:
        barrier.wait()
        return books.books.value_anew(0, HOUR).entries

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(value, range(4)))
    assert books.balances("nUSD")["supply:serve/shop/0"] == -(10**9)
    assert books.ledger.first_break() is None


def test_what_is_unknown_stays_unknown(books: Bookkeeping) -> None:
    """No meter and no load model: no entry of energy or carbon, not one of 0; a measured 0 too."""
    blind = Resource("serve/shop/0", "replica", "unlisted", 1, 1, "gpu-hour", 0, "DEU")
    books.post(blind, _supply(1), _busy(2, "a", 600))
    assert {entry["unit"] for entry in books.ledger.entries()} == {"device_us", "nUSD"}
    assert {b.unit for b in books.ledger.balances("a")} == {"device_us", "nUSD"}
