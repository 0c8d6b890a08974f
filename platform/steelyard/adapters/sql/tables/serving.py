"""How versions serve, and who may ask them."""

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, PrimaryKeyConstraint, Text

from steelyard.adapters.sql.tables import Int, integer, make_fact_table, make_table, string

serving_policy = make_fact_table(
    "serving_policy",
    Column("seq", Int, primary_key=True, autoincrement=False),
    string("model"),
    string("policy"),
    string("actor"),
    string("reason"),
    integer("set_us"),
    Index("ix_serving_policy_model", "model", "seq"),
)

shadow_setting = make_fact_table(
    "shadow_setting",
    Column("seq", Int, primary_key=True, autoincrement=False),
    string("model"),
    integer("version", null=True),
    integer("share_bp"),
    string("actor"),
    string("reason"),
    integer("set_us"),
    CheckConstraint("share_bp between 0 and 10000", name="share"),
    Index("ix_shadow_setting_model", "model", "seq"),
)

version_drain = make_fact_table(
    "version_drain",
    Column("seq", Int, primary_key=True, autoincrement=False),
    string("model"),
    integer("version"),
    string("actor"),
    string("reason"),
    integer("drained_us"),
    Index("ix_version_drain_model", "model", "version", "seq"),
)

application = make_table(
    "application",
    string("model"),
    integer("version"),
    string("phase"),
    string("reason"),
    integer("updated_us"),
    PrimaryKeyConstraint("model", "version"),
)

api_key = make_fact_table(
    "api_key",
    Column("key_id", Text, primary_key=True),
    string("name"),
    string("secret_sha256"),
    string("models"),
    integer("created_us"),
    string("created_by"),
    integer("expires_us", null=True),
    integer("requests_per_minute"),
    integer("items_per_day"),
    string("told"),
    integer("top"),
    CheckConstraint("told in ('all', 'label', 'top')", name="told"),
    CheckConstraint("requests_per_minute >= 0 and items_per_day >= 0", name="limits"),
)

api_key_revocation = make_fact_table(
    "api_key_revocation",
    Column("key_id", Text, ForeignKey("api_key.key_id"), primary_key=True),
    integer("revoked_us"),
    string("revoked_by"),
    string("reason"),
)
