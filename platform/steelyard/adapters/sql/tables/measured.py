"""What was measured: who was there to work, and windows of supply and of usage."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
)

from steelyard.adapters.sql.tables import integer, make_fact_table, make_table, string
from steelyard.adapters.sql.types import ExactInt

resource = make_fact_table(
    "resource",
    Column("resource_id", Text, primary_key=True),
    string("kind"),
    string("device_model"),
    integer("device_count"),
    integer("slots"),
    string("price_sku"),
    integer("started_us"),
    string("region", null=True),
    string("team", null=True),
    CheckConstraint("device_count > 0 and slots > 0", name="positive"),
)

resource_end = make_fact_table(
    "resource_end",
    Column("resource_id", Text, primary_key=True),
    integer("ended_us"),
    integer("inferred"),
)

run_attempt = make_fact_table(
    "run_attempt",
    string("run_id"),
    integer("attempt"),
    string("model"),
    string("outcome"),
    integer("started_us"),
    integer("ended_us", null=True),
    PrimaryKeyConstraint("run_id", "attempt"),
)

COUNTED = (
    "requests", "errors", "cache_hits", "items", "tokens_in", "tokens_out", "busy_ns",
)  # fmt: skip
"""What a window of usage counts, and what is summed of it."""


def _window_columns() -> list[object]:
    return [
        Column("idem_key", Text, primary_key=True),
        string("content_sha256"),
        string("producer_id"),
        string("boot_id"),
        integer("seq"),
        Column("resource_id", Text, ForeignKey("resource.resource_id"), nullable=False),
        integer("window_start_us"),
        integer("window_end_us"),
        integer("received_us"),
    ]


supply_window = make_fact_table(
    "supply_window",
    *_window_columns(),
    integer("reserved_us"),
    integer("cpu_us", null=True),
    integer("energy_mj", null=True),
    string("energy_method"),
    string("energy_boundary", null=True),
    UniqueConstraint("resource_id", "window_start_us"),
    UniqueConstraint("producer_id", "boot_id", "seq"),
    CheckConstraint("window_end_us > window_start_us", name="ordered"),
    CheckConstraint("(energy_mj is null) = (energy_method = 'unknown')", name="unknown"),
)

usage_window = make_fact_table(
    "usage_window",
    *_window_columns(),
    string("model"),
    integer("version", null=True),
    string("phase"),
    string("activity"),
    string("run_id", null=True),
    integer("attempt", null=True),
    *(integer(name) for name in COUNTED),
    Column("flop", ExactInt, nullable=True),
    string("datatype", null=True),
    UniqueConstraint("producer_id", "boot_id", "seq"),
    CheckConstraint("window_end_us > window_start_us", name="ordered"),
    Index("ix_usage_window_resource_id_start", "resource_id", "window_start_us"),
    Index("ix_usage_window_model_version_start", "model", "version", "window_start_us"),
    Index("ix_usage_window_run_id", "run_id"),
)

boot_end = make_fact_table(
    "boot_end",
    string("producer_id"),
    string("boot_id"),
    integer("last_seq"),
    integer("ended_us"),
    PrimaryKeyConstraint("producer_id", "boot_id"),
)

waiting_window = make_table(
    "waiting_window",
    Column("idem_key", Text, ForeignKey("supply_window.idem_key"), primary_key=True),
    integer("window_start_us"),
    Index("ix_waiting_window_start", "window_start_us"),
)

inferred_window = make_fact_table(
    "inferred_window",
    Column("idem_key", Text, ForeignKey("supply_window.idem_key"), primary_key=True),
    string("resource_id"),
    integer("window_start_us"),
    integer("window_end_us"),
    Index("ix_inferred_window_resource_id", "resource_id"),
)

superseded_window = make_fact_table(
    "superseded_window",
    Column("idem_key", Text, ForeignKey("inferred_window.idem_key"), primary_key=True),
    integer("recorded_us"),
)

resource_seen = make_table(
    "resource_seen",
    Column("resource_id", Text, ForeignKey("resource.resource_id"), primary_key=True),
    integer("last_us"),
)

resource_owner = make_table(
    "resource_owner",
    Column("resource_id", Text, ForeignKey("resource.resource_id"), nullable=False),
    string("model"),
    integer("version"),
    string("phase"),
    string("run_id"),
    PrimaryKeyConstraint("resource_id", "model", "version", "phase", "run_id"),
)

late_usage = make_table(
    "late_usage",
    Column("idem_key", Text, ForeignKey("usage_window.idem_key"), primary_key=True),
    string("resource_id"),
    integer("window_start_us"),
)

usage_conflict = make_fact_table(
    "usage_conflict",
    Column("conflict_id", Text, primary_key=True),
    string("idem_key"),
    string("stored_sha256"),
    string("received_sha256"),
    string("payload"),
    integer("received_us"),
)
