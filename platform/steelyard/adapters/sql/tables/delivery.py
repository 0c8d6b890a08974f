"""Progressive delivery: rollouts, the traffic they asked for, what they led to."""

from sqlalchemy import Column, Index, PrimaryKeyConstraint, Text, text

from steelyard.adapters.sql.tables import Int, integer, make_fact_table, make_table, string

rollout = make_table(
    "rollout",
    Column("rollout_id", Text, primary_key=True),
    string("model"),
    string("kind"),
    integer("stable", null=True),
    integer("candidate"),
    string("plan"),
    string("lineage"),
    string("phase"),
    string("condition"),
    integer("step"),
    integer("weight_bp"),
    integer("generation"),
    integer("confirmed_us", null=True),
    string("reason"),
    string("created_by"),
    integer("created_us"),
    integer("updated_us"),
    integer("ended_us", null=True),
    integer("row_version"),
    Column("cause", Text, nullable=False, server_default=""),
    integer("since_us", null=True),
    integer("stopped_us", null=True),
    Column("waited_us", Int, nullable=False, server_default="0"),
    integer("resumed_us", null=True),
    Column("approved", Int, nullable=False, server_default="-1"),
    Column("first_step", Int, nullable=False, server_default="0"),
    Column("offset_bp", Int, nullable=False, server_default="0"),
    Column("max_weight_bp", Int, nullable=False, server_default="10000"),
    Index(
        "uq_rollout_open",
        "model",
        "candidate",
        unique=True,
        sqlite_where=text("phase in ('progressing', 'paused')"),
        postgresql_where=text("phase in ('progressing', 'paused')"),
    ),
)

rollout_event = make_fact_table(
    "rollout_event",
    Column("seq", Int, primary_key=True, autoincrement=False),
    string("rollout_id"),
    integer("at_us"),
    string("actor"),
    string("verb"),
    string("from_condition"),
    string("to_condition"),
    integer("step"),
    integer("weight_bp"),
    integer("generation"),
    string("reason"),
    string("evidence"),
    string("prev_hash"),
    string("hash"),
    Index("ix_rollout_event_rollout_id", "rollout_id"),
)

traffic_intent = make_fact_table(
    "traffic_intent",
    string("model"),
    integer("generation"),
    string("rollout_id"),
    integer("stable"),
    integer("canary", null=True),
    integer("weight_bp"),
    string("lineage"),
    integer("step"),
    integer("created_us"),
    string("shares", null=True),
    PrimaryKeyConstraint("model", "generation"),
)

traffic_confirmation = make_fact_table(
    "traffic_confirmation",
    string("model"),
    integer("generation"),
    integer("confirmed_us"),
    PrimaryKeyConstraint("model", "generation"),
)

observation = make_fact_table(
    "observation",
    string("rollout_id"),
    string("metric"),
    integer("generation"),
    integer("interval_start_us"),
    integer("n_canary"),
    integer("x_canary"),
    integer("n_stable"),
    integer("x_stable"),
    integer("recorded_us"),
    PrimaryKeyConstraint("rollout_id", "metric", "generation", "interval_start_us"),
)

promotion = make_fact_table(
    "promotion",
    Column("seq", Int, primary_key=True, autoincrement=False),
    integer("at_us"),
    string("model"),
    string("alias"),
    integer("from_version", null=True),
    integer("to_version"),
    string("actor"),
    string("verb"),
    string("reason"),
    string("rollout_id"),
    string("sha256"),
    string("prev_hash"),
    string("hash"),
    Index("ix_promotion_model", "model", "seq"),
)

auto_rollout = make_fact_table(
    "auto_rollout",
    Column("seq", Int, primary_key=True, autoincrement=False),
    string("model"),
    string("plan", null=True),
    string("plan_name"),
    string("actor"),
    string("reason"),
    integer("set_us"),
    integer("since_us"),
    Index("ix_auto_rollout_model", "model", "seq"),
)

lease = make_table(
    "lease",
    Column("name", Text, primary_key=True),
    string("holder"),
    integer("token"),
    integer("expires_us"),
)
