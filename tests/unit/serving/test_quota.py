import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from steelyard.adapters.key_counter_files import read_asked
from steelyard.domain.api_key import ApiKey
from steelyard.domain.key_counters import DAY_US, MINUTE_US
from steelyard.settings import Settings
from steelyard_serving.access import Denied
from steelyard_serving.quota import OPEN_FILES, Quota, Tally

NOON_US = 20_000 * DAY_US + DAY_US // 2
HAMMER = """
import json, sys
from pathlib import Path
from steelyard_serving.quota import Tally
tally, limit = Tally(Path(sys.argv[1])), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
spent = 0
for n in range(limit):
    tally.begin()
    spent += tally.take(7, 1 + n % 3, limit) and 1 + n % 3
    tally.end()
print(json.dumps(spent))
"""


def key(name: str = "0123456789", *, rate: int = 0, budget: int = 0) -> ApiKey:
    """A key with limits."""
    return ApiKey(name, "shop", "d" * 64, 1, requests_per_minute=rate, items_per_day=budget)


@pytest.fixture
def quota(settings: Settings) -> Iterator[Quota]:
    """The limits as one replica keeps them."""
    kept = Quota(settings)
    yield kept
    kept.stop()


def test_a_budget_is_spent_to_the_last_row(quota: Quota) -> None:
    """What does not fit spends nothing; what still fits is taken."""
    some = key(budget=10)
    quota.take(some, "digits", 7, NOON_US)
    with pytest.raises(Denied, match="10 rows of digits a day") as denied:
        quota.take(some, "digits", 4, NOON_US)
    assert denied.value.status == 429
    assert denied.value.headers == {"retry-after": str(43_200)}
    quota.take(some, "digits", 3, NOON_US)
    assert quota.spent(some, "digits", NOON_US) == 10


def test_a_budget_is_each_models_and_each_days(quota: Quota) -> None:
    """Another model and tomorrow have one of their own."""
    some = key(budget=10)
    quota.take(some, "digits", 10, NOON_US)
    quota.take(some, "fashion", 10, NOON_US)
    quota.take(some, "digits", 10, NOON_US + DAY_US // 2)
    assert quota.spent(some, "digits", NOON_US + DAY_US) == 10


def test_more_rows_than_a_day_has_are_not_to_be_tried_again(quota: Quota) -> None:
    """No time to wait for is named."""
    with pytest.raises(Denied) as denied:
        quota.take(key(budget=10), "digits", 11, NOON_US)
    assert denied.value.headers == {}


def test_a_rate_counts_requests_of_all_models(quota: Quota) -> None:
    """By the minute of the clock; the answer says when the next begins, in 1 to 60 seconds."""
    some = key(rate=2)
    quota.take(some, "digits", 100, NOON_US)
    quota.take(some, "fashion", 100, NOON_US)
    for now_us, wait_s in ((NOON_US, 60), (NOON_US + MINUTE_US - 1, 1)):
        with pytest.raises(Denied, match="2 times a minute") as denied:
            quota.take(some, "digits", 1, now_us)
        assert denied.value.retry_after_s == wait_s
    quota.take(some, "digits", 1, NOON_US + MINUTE_US)


def test_a_clock_that_was_put_back_gives_nothing_twice(quota: Quota) -> None:
    """Not by a window; a clock that was far off does not lock the key out either."""
    some = key(budget=10)
    quota.take(some, "digits", 10, NOON_US)
    with pytest.raises(Denied):
        quota.take(some, "digits", 1, NOON_US - DAY_US)
    quota.take(some, "digits", 1, NOON_US - 2 * DAY_US)


def test_a_budget_outlives_the_replica(settings: Settings) -> None:
    """What one spent is spent for the next, and for one beside it."""
    first, second = Quota(settings), Quota(settings)
    first.take(key(budget=10), "digits", 6, NOON_US)
    second.take(key(budget=10), "digits", 3, NOON_US)
    first.stop()
    third = Quota(settings)
    with pytest.raises(Denied):
        third.take(key(budget=10), "digits", 2, NOON_US)
    second.stop()
    third.stop()


def test_counters_say_what_each_key_asked(quota: Quota, settings: Settings) -> None:
    """By all replicas. Rows are those of requests that were not denied."""
    quota.take(key("aaaaaaaaaa"), "digits", 5, NOON_US)
    with pytest.raises(Denied):
        quota.take(key(budget=1), "digits", 5, NOON_US)
    second = Quota(settings)
    second.take(key("aaaaaaaaaa", budget=100), "digits", 7, NOON_US)
    second.near(key("aaaaaaaaaa"), 3)
    second.stop()
    assert quota.counters() == {
        "aaaaaaaaaa": {"requests": 2, "rows": 12, "denied": 0, "near_duplicates": 3},
        "0123456789": {"requests": 1, "rows": 0, "denied": 1, "near_duplicates": 0},
    }
    quota.stop()
    asked = read_asked(settings.run_dir / "quota", NOON_US)
    assert asked["aaaaaaaaaa"].counts["rows"] == 12 and asked["aaaaaaaaaa"].spent == {"digits": 7}
    assert asked["0123456789"].counts["denied"] == 1
    tomorrow = read_asked(settings.run_dir / "quota", NOON_US + DAY_US)
    assert tomorrow["aaaaaaaaaa"].spent == {"digits": 0}


def test_a_replica_that_ends_gives_nobody_a_new_minute(settings: Settings) -> None:
    """What it had yet to count changes no limit, and an empty folder counts nothing."""
    assert read_asked(settings.run_dir / "quota", NOON_US) == {}
    first, second = Quota(settings), Quota(settings)
    first.take(key(rate=1), "digits", 1, NOON_US)
    first.stop()
    with pytest.raises(Denied):
        second.take(key(rate=1), "digits", 1, NOON_US)
    second.stop()


def test_many_keys_hold_few_files_open(quota: Quota) -> None:
    """A key that was put aside finds its count again."""
    quota.take(key("aaaaaaaaaa", budget=10), "digits", 6, NOON_US)
    for number in range(OPEN_FILES):
        quota.take(key(f"{number:010}", budget=10), "digits", 1, NOON_US)
    with pytest.raises(Denied):
        quota.take(key("aaaaaaaaaa", budget=10), "digits", 5, NOON_US)


def test_a_limit_that_cannot_be_counted_is_not_taken_for_none(settings: Settings) -> None:
    """The request is refused with 503; a key without limits goes on."""
    settings.run_dir.mkdir(parents=True)
    (settings.run_dir / "quota").write_text("no folder")
    with pytest.raises(Denied) as denied:
        Quota(settings).take(key(budget=10), "digits", 1, NOON_US)
    Quota(settings).take(key(), "digits", 1, NOON_US)
    assert denied.value.status == 503 and denied.value.retry_after_s == 5


def test_four_processes_spend_one_budget(tmp_path: Path) -> None:
    """Four at once, each trying for all of it, get the budget and not a row more (F23)."""
    limit = 4_001
    command = [sys.executable, "-c", HAMMER, str(tmp_path / "tally"), str(limit)]
    crew = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for one in crew:
        assert one.stdout is not None and one.stdout.readline() == "ready\n"
    spent = []
    for one in crew:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    for one in crew:
        told, _ = one.communicate(timeout=60)
        spent.append(json.loads(told))
    assert sum(spent) == limit
    tally = Tally(tmp_path / "tally")
    assert tally.spent(7) == limit
    tally.close()
