"""From stored rows to frozen values."""

from typing import Any, TypeVar

F = TypeVar("F")


def from_row(kind: type[F], row: Any) -> F:
    """The value of a dataclass from the columns that are named like its fields."""
    names = kind.__dataclass_fields__  # type: ignore[attr-defined]
    return kind(**{name: row[name] for name in names})
