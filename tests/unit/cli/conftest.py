import json
from collections.abc import Callable
from typing import Any

import pytest

from steelyard.cli.app import OK


@pytest.fixture
def told(ask: Callable[..., tuple[int, str, str]]) -> Callable[..., dict[str, Any]]:
    """Types a command that has to work, with --json; its document. Each module says its ``ask``."""

    def told(*words: str) -> dict[str, Any]:
        code, out, err = ask(*words, "--json")
        assert code == OK, err
        document: dict[str, Any] = json.loads(out)
        assert document["schema_version"] == 1
        return document

    return told
