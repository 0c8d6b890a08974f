"""Smaller forms of a version. A kind is a module with one ``make(parent, calibration, into)``."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.model_version import Relation
from steelyard_workflows.variants import int8_static

Make = Callable[[Path, NDArray[Any], Path], Path]


@dataclass(frozen=True, slots=True)
class Kind:
    """How a variant is made and what it is to its parent.

    Its forward FLOPs are the parent's, ``flops_method`` says how; ``datatype`` is what they
    compute in.
    """

    name: str
    relation: Relation
    make: Make
    flops_method: str
    datatype: str


KINDS: dict[str, Kind] = {
    "int8_static": Kind("int8_static", "quantized", int8_static.make, "parent, int8 ops", "INT8"),
}


def kind_named(name: str) -> Kind:
    """The kind with this name.

    Raises:
        InvalidInput: there is none; the message lists those that exist.
    """
    try:
        return KINDS[name]
    except KeyError:
        known = ", ".join(sorted(KINDS))
        fault = Fault("variant", f"{name!r} is not a kind of variant; there is: {known}")
        raise InvalidInput(str(fault), (fault,), f"Use --variant {next(iter(KINDS))}.") from None
