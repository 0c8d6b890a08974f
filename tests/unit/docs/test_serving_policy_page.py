"""The page of serving policies says what the code takes."""

import re
from dataclasses import asdict
from pathlib import Path

from steelyard.domain.serving_policy import CHOICES, RANGES, ServingPolicy

PAGE = Path(__file__).parents[3] / "docs/reference/serving-policy.md"
ROW = re.compile(r"^\| `([a-z_]+)` \| `([a-z0-9]+)` \| ([^|]+) \|", re.MULTILINE)


def test_every_field_is_described_with_its_default_and_its_values() -> None:
    """One line a field, and none for what is no field."""
    rows = {name: (default, values.strip()) for name, default, values in ROW.findall(
        PAGE.read_text()
    )}  # fmt: skip
    assert {name: default for name, (default, _) in rows.items()} == {
        name: str(value) or "empty" for name, value in asdict(ServingPolicy()).items()
    }
    for name, choices in CHOICES.items():
        assert rows[name][1] == ", ".join(f"`{choice}`" for choice in choices)
    for name, (least, most) in RANGES.items():
        assert rows[name][1] in (f"{least} to {most}", f"{least} to 2^{most.bit_length() - 1}")
