"""A model's bytes, opened by the library that runs them; replicas and evaluation do it alike."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Array = Any
"""A numpy array; the control plane needs no numpy."""


class ModelSession(Protocol):
    """Runs one model in one thread."""

    def __init__(self, data: bytes) -> None: ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of what the model takes."""
        ...

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, Array]) -> list[Array]:
        """These outputs, in this order; None: all of them."""
        ...

    def zeros(self) -> dict[str, Array]:
        """One row that the model takes."""
        ...
