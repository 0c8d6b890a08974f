"""The whole schema: a table is declared once its module is imported, and this imports them all."""

from steelyard.adapters.sql import projections  # noqa: F401
from steelyard.adapters.sql.tables import (  # noqa: F401
    audit,
    delivery,
    ledger,
    measured,
    metadata,
    models,
    rates,
    serving,
)

SCHEMA = metadata
"""Every table, also of sums: what the migrations are compared with."""
APPEND_ONLY = tuple(table for table in SCHEMA.sorted_tables if table.info["append_only"])
"""Facts: rows that never change and never go."""
