"""What every table is made of; triggers (``append_only``) keep facts as they are.

Integers are 64-bit, amounts are scaled, times are ``_us`` (microseconds UTC), text is canonical.
SQLite tables are STRICT, so that neither dialect bends a type.
"""

from typing import Any

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text
from sqlalchemy.sql.type_api import TypeEngine

Int: TypeEngine[int] = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)
"""The tables of the modules that were imported; ``schema`` imports all."""


def make_table(name: str, *parts: Any, append_only: bool = False) -> Table:
    """A STRICT table."""
    return Table(name, metadata, *parts, info={"append_only": append_only}, sqlite_strict=True)


def make_fact_table(name: str, *parts: Any) -> Table:
    """A STRICT table of facts: rows that never change and never go."""
    return make_table(name, *parts, append_only=True)


def integer(name: str, *, null: bool = False) -> Column[int]:
    """A 64-bit column."""
    return Column(name, Int, nullable=null)


def string(name: str, *, null: bool = False) -> Column[str]:
    """A text column."""
    return Column(name, Text, nullable=null)
