"""Versions of models, what is known of them, and what the registry says of them."""

from sqlalchemy import CheckConstraint, Column, Index, PrimaryKeyConstraint, Text

from steelyard.adapters.sql.tables import Int, integer, make_fact_table, make_table, string
from steelyard.adapters.sql.types import ExactInt

model_version = make_fact_table(
    "model_version",
    string("model"),
    integer("version"),
    string("variant"),
    string("relation"),
    integer("parent", null=True),
    string("run_id"),
    string("sha256"),
    integer("size_bytes"),
    integer("parameters", null=True),
    Column("flops_forward", ExactInt, nullable=True),
    integer("created_us"),
    PrimaryKeyConstraint("model", "version"),
    Index("ix_model_version_run_id", "run_id"),
)

evidence = make_fact_table(
    "evidence",
    Column("record_id", Text, primary_key=True),
    string("model"),
    integer("version"),
    string("sha256"),
    string("artifact_sha256", null=True),
    string("origin"),
    string("document"),
    string("actor"),
    integer("recorded_us"),
    CheckConstraint("origin in ('registered', 'measured')", name="origin"),
    Index("ix_evidence_model_version", "model", "version"),
)

gate_policy = make_fact_table(
    "gate_policy",
    Column("policy_id", Text, primary_key=True),
    string("model"),
    string("policy"),
    string("actor"),
    string("reason"),
    integer("recorded_us"),
    Index("ix_gate_policy_model", "model"),
)

served_version = make_fact_table(
    "served_version",
    string("model"),
    integer("version"),
    string("run_id"),
    string("source"),
    integer("created_us"),
    string("tags"),
    integer("recorded_us"),
    PrimaryKeyConstraint("model", "version"),
)

version_deletion = make_fact_table(
    "version_deletion",
    Column("seq", Int, primary_key=True, autoincrement=False),
    integer("at_us"),
    string("model"),
    integer("version"),
    string("sha256"),
    string("actor"),
    string("reason"),
    string("prev_hash"),
    string("hash"),
    Index("ix_version_deletion_model", "model", "version"),
)

alias_mirror = make_table(
    "alias_mirror",
    string("model"),
    string("alias"),
    integer("seen", null=True),
    integer("intended", null=True),
    PrimaryKeyConstraint("model", "alias"),
)

alias_drift = make_fact_table(
    "alias_drift",
    Column("seq", Int, primary_key=True, autoincrement=False),
    integer("at_us"),
    string("model"),
    string("alias"),
    string("verb"),
    integer("expected", null=True),
    integer("found", null=True),
    string("actor"),
    string("reason"),
    string("prev_hash"),
    string("hash"),
    CheckConstraint("verb in ('found', 'adopted', 'restored', 'settled')", name="verb"),
    Index("ix_alias_drift_model", "model", "alias", "seq"),
)
