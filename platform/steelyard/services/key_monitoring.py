"""What ``/metrics`` tells of keys: what each asked this machine's replicas, and its budgets."""

from collections.abc import Iterator, Mapping

from steelyard.domain.exposition import Family, Sample
from steelyard.domain.key_counters import Asked

TEXTS = {
    "requests": "Requests that came with a key.",
    "rows": "Rows of them that were within the key's limits.",
    "denied": "Requests of a key that were beyond its limits.",
    "near_duplicates": "Rows that a key had asked nearly the same shortly before.",
}


def key_families(asked: Mapping[str, Asked]) -> Iterator[Family]:
    """By key id: counters since the run folder exists, and rows of today's budgets (UTC)."""
    for name, text in TEXTS.items():
        yield Family(f"steelyard_key_{name}_total", "counter", text, [
            Sample({"key_id": key_id}, one.counts.get(name, 0)) for key_id, one in asked.items()
        ])  # fmt: skip
    yield Family("steelyard_key_budget_spent_rows", "gauge",
                 "Rows of today's budget that a key has spent on a model.", [
        Sample({"key_id": key_id, "model": model}, rows)
        for key_id, one in asked.items() for model, rows in one.spent.items()
    ])  # fmt: skip
