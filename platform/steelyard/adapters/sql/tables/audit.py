"""Single predictions, their chain of segments, and what was true."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
    text,
)

from steelyard.adapters.sql.tables import Int, integer, make_fact_table, make_table, string

prediction = make_fact_table(
    "prediction",
    Column("prediction_id", Text, primary_key=True),
    string("model"),
    integer("version"),
    string("sha256"),
    string("resource_id"),
    string("arm"),
    string("lineage"),
    integer("generation"),
    integer("bucket", null=True),
    integer("received_us"),
    integer("busy_ns"),
    integer("items"),
    integer("status"),
    string("unit_sha256", null=True),
    string("inputs_sha256", null=True),
    string("classes", null=True),
    string("error", null=True),
    integer("latency_us", null=True),
    string("key_id", null=True),
    integer("cached", null=True),
    integer("batch", null=True),
    string("outputs_sha256", null=True),
    string("flags", null=True),
    string("inputs", null=True),
    string("outputs", null=True),
    string("shadows", null=True),
    string("trace_id", null=True),
    string("digest_method", null=True),
    integer("segment", null=True),
    integer("place", null=True),
    string("link", null=True),
    Index("ix_prediction_model_lineage_received", "model", "lineage", "received_us"),
    Index("uq_prediction_segment_place", "segment", "place", unique=True),
    Index(
        "ix_prediction_shadows", "shadows",
        sqlite_where=text("shadows is not null"), postgresql_where=text("shadows is not null"),
    ),
)  # fmt: skip

prediction_aside = make_fact_table(
    "prediction_aside",
    integer("segment"),
    integer("place"),
    string("prediction_id"),
    string("record"),
    string("link"),
    PrimaryKeyConstraint("segment", "place"),
    Index("ix_prediction_aside_prediction_id", "prediction_id"),
)

prediction_segment = make_fact_table(
    "prediction_segment",
    Column("seq", Int, primary_key=True, autoincrement=False),
    integer("v"),
    string("boot_id"),
    integer("number"),
    string("model"),
    integer("records"),
    integer("first_us"),
    integer("last_us"),
    string("previous"),
    string("digest"),
    integer("recorded_us"),
    string("prev_hash"),
    string("hash"),
    UniqueConstraint("boot_id", "number"),
    CheckConstraint("records > 0", name="some"),
    Index("ix_prediction_segment_model_last", "model", "last_us"),
)

prediction_erasure = make_fact_table(
    "prediction_erasure",
    Column("seq", Int, primary_key=True, autoincrement=False),
    Column("segment", Int, ForeignKey("prediction_segment.seq"), nullable=False),
    integer("records"),
    integer("retention_days"),
    string("actor"),
    integer("erased_us"),
    string("prev_hash"),
    string("hash"),
    UniqueConstraint("segment"),
    CheckConstraint("retention_days > 0", name="lawful"),
)

audit_head = make_table(
    "audit_head",
    Column("chain", Text, primary_key=True),
    integer("seq"),
    string("hash"),
)

label = make_fact_table(
    "label",
    Column("prediction_id", Text, primary_key=True),
    string("classes"),
    string("source"),
    integer("recorded_us"),
)
