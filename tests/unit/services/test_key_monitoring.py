from steelyard.domain.exposition import exposed
from steelyard.domain.key_counters import DAY_US, asked
from steelyard.services.key_monitoring import key_families

TODAY = 20_000


def test_a_scrape_tells_what_each_key_asked() -> None:
    """Counters of the key, and of its budgets those of today; yesterday's are spent no more."""
    files = {
        "aaaaaaaaaa": (7, 1, 12, 40, 3, 2),
        "aaaaaaaaaa.digits": (TODAY, 25, 0, 0, 0, 0),
        "aaaaaaaaaa.fashion": (TODAY - 1, 15, 0, 0, 0, 0),
        "bbbbbbbbbb.digits": (TODAY, 5, 0, 0, 0, 0),
    }
    told = exposed(key_families(asked(files, TODAY * DAY_US + 5))).splitlines()
    assert [line for line in told if not line.startswith("#")] == [
        'steelyard_key_requests_total{key_id="aaaaaaaaaa"} 12',
        'steelyard_key_requests_total{key_id="bbbbbbbbbb"} 0',
        'steelyard_key_rows_total{key_id="aaaaaaaaaa"} 40',
        'steelyard_key_rows_total{key_id="bbbbbbbbbb"} 0',
        'steelyard_key_denied_total{key_id="aaaaaaaaaa"} 3',
        'steelyard_key_denied_total{key_id="bbbbbbbbbb"} 0',
        'steelyard_key_near_duplicates_total{key_id="aaaaaaaaaa"} 2',
        'steelyard_key_near_duplicates_total{key_id="bbbbbbbbbb"} 0',
        'steelyard_key_budget_spent_rows{key_id="aaaaaaaaaa",model="digits"} 25',
        'steelyard_key_budget_spent_rows{key_id="aaaaaaaaaa",model="fashion"} 0',
        'steelyard_key_budget_spent_rows{key_id="bbbbbbbbbb",model="digits"} 5',
    ]


def test_a_platform_without_keys_tells_nothing_of_them() -> None:
    """No family has a sample."""
    assert exposed(key_families({})) == ""
