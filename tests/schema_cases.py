"""How often, and with what, a server is asked what its OpenAPI document allows, and forbids."""

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from schemathesis import GenerationMode


def examples(count: int) -> settings:
    """So many for each call; ``SCHEMA_EXAMPLES=2000`` asks as often as that, and at random."""
    return settings(
        max_examples=int(os.environ.get("SCHEMA_EXAMPLES", str(count))), deadline=None,
        database=None, derandomize="SCHEMA_EXAMPLES" not in os.environ,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip


def allowed_and_forbidden(operation: Any) -> Any:
    """A strategy of requests; where there is nothing that could be wrong, all are allowed."""
    cases = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    if operation.body or any(operation.iter_parameters()):
        cases |= operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    return cases
