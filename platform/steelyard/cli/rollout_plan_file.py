"""Reading a rollout plan that a person wrote in YAML."""

from pathlib import Path

import yaml

from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.rollout_plan import Plan
from steelyard.domain.rollout_plan_file import plan_of

LARGEST_BYTES = 64 * 1024


def read_plan(file: Path) -> Plan:
    """The plan in a file.

    Raises:
        InvalidInput: it cannot be read, is no YAML, or is no plan; every fault is named.
    """
    try:
        with file.open("rb") as opened:
            text = opened.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise _fault(file, str(error.strerror)) from error
    if len(text) > LARGEST_BYTES:
        raise _fault(file, f"is larger than {LARGEST_BYTES} bytes")
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _fault(file, f"is no YAML: {' '.join(str(error).split())}") from error
    return plan_of(document)


def _fault(file: Path, what: str) -> InvalidInput:
    fault = Fault(str(file), what)
    return InvalidInput(str(fault), (fault,), "docs/reference/rollout-plan.md shows one.")
