"""Column types that both dialects keep exactly."""

from typing import Any

from sqlalchemy import Dialect, Numeric, Text
from sqlalchemy.types import TypeDecorator, TypeEngine


class ExactInt(TypeDecorator[int]):
    """An integer of up to 40 digits: NUMERIC on PostgreSQL, text on SQLite (summed in Python).

    FLOPs of a large training run do not fit 64 bits, and SQLite's NUMERIC would round them.
    """

    impl = Numeric(40, 0)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text on SQLite, NUMERIC(40, 0) elsewhere."""
        kind = Text() if dialect.name == "sqlite" else Numeric(40, 0)
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        """Only true integers go in: a float has already lost digits."""
        if value is None:
            return None
        if type(value) is not int:
            raise TypeError(f"an exact integer is an int, found {type(value).__name__}")
        return str(value) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        """An int, whatever the driver returned."""
        return None if value is None else int(value)
