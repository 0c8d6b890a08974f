"""The tables of sums that reports read; made anew from entries and windows at any time.

They need no migrations: whoever finds another ``VERSION`` than his own drops and rebuilds them.
"""

from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    Index,
    PrimaryKeyConstraint,
    Table,
    Text,
    select,
)

from steelyard.adapters.sql.insert import insert_into
from steelyard.adapters.sql.tables import Int, integer, make_table, metadata, string
from steelyard.adapters.sql.tables.ledger import account
from steelyard.adapters.sql.tables.measured import COUNTED
from steelyard.adapters.sql.types import ExactInt

VERSION = 3
"""Changes with every change of these tables or of what is summed in them."""

projection = make_table(
    "projection",
    Column("name", Text, primary_key=True),
    integer("version"),
)
"""Of which version the sums in this database are."""

balance = make_table(
    "balance",
    Column("account_id", Int, ForeignKey(account.c.account_id), nullable=False),
    string("tier"),
    integer("amount"),
    PrimaryKeyConstraint("account_id", "tier"),
)

rollup_day = make_table(
    "rollup_day",
    Column("account_id", Int, ForeignKey(account.c.account_id), nullable=False),
    integer("day"),
    string("tier"),
    integer("amount"),
    PrimaryKeyConstraint("account_id", "day", "tier"),
    Index("ix_rollup_day_day", "day"),
)

model_day = make_table(
    "model_day",
    string("model"),
    string("unit"),
    integer("day"),
    integer("amount"),
    PrimaryKeyConstraint("model", "unit", "day"),
)

model_month = make_table(
    "model_month",
    string("model"),
    integer("month"),
    string("phase"),
    string("role"),
    string("unit"),
    string("tier"),
    integer("amount"),
    PrimaryKeyConstraint("model", "month", "phase", "role", "unit", "tier"),
)


def _usage(name: str, time: str) -> Table:
    """Usage by day or by month."""
    key = ("model", "version", time, "phase", "activity", "run_id", "device_model", "datatype")
    return make_table(
        name,
        string("model"),
        integer("version"),
        integer(time),
        string("phase"),
        string("activity"),
        string("run_id"),
        string("device_model"),
        string("datatype"),
        integer("windows"),
        *(integer(name) for name in COUNTED),
        integer("busy_device_us"),
        Column("flop", ExactInt, nullable=False),
        integer("flop_windows"),
        integer("start_us"),
        integer("end_us"),
        PrimaryKeyConstraint(*key),
    )


usage_day = _usage("usage_day", "day")
usage_month = _usage("usage_month", "month")

boot = make_table(
    "boot",
    string("producer_id"),
    string("boot_id"),
    string("model", null=True),
    integer("received"),
    integer("highest_seq"),
    integer("start_us"),
    integer("end_us"),
    PrimaryKeyConstraint("producer_id", "boot_id"),
    Index("ix_boot_model", "model"),
)

PROJECTIONS = (balance, rollup_day, model_day, model_month, usage_day, usage_month, boot)


def are_current(connection: Connection) -> bool:
    """Whether the sums in the database are of this version."""
    kept = select(projection.c.version).where(projection.c.name == "rollups")
    return connection.execute(kept).scalar() == VERSION


def make_anew(connection: Connection) -> None:
    """Empty tables of this version, whatever was there; ``rollups.rebuild`` fills them."""
    metadata.drop_all(connection, PROJECTIONS)
    metadata.create_all(connection, PROJECTIONS)
    row = insert_into(connection, projection).values(name="rollups", version=VERSION)
    connection.execute(
        row.on_conflict_do_update(index_elements=["name"], set_={"version": VERSION})
    )
