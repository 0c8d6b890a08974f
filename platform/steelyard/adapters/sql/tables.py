"""Every table but the sums of ``projections``; triggers (``append_only``) keep facts as they are.

Integers are 64-bit, amounts are scaled, times are ``_us`` (microseconds UTC), text is canonical.
SQLite tables are STRICT, so that neither dialect bends a type.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.sql.type_api import TypeEngine

from steelyard.adapters.sql.types import ExactInt

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


def make_table(name: str, *parts: Column[int] | Column[str] | object) -> Table:
    """A STRICT table."""
    return Table(name, metadata, *parts, sqlite_strict=True)  # type: ignore[arg-type]


def integer(name: str, *, null: bool = False) -> Column[int]:
    """A 64-bit column."""
    return Column(name, Int, nullable=null)


def string(name: str, *, null: bool = False) -> Column[str]:
    """A text column."""
    return Column(name, Text, nullable=null)


resource = make_table(
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

resource_end = make_table(
    "resource_end",
    Column("resource_id", Text, primary_key=True),
    integer("ended_us"),
    integer("inferred"),
)

price = make_table(
    "price",
    Column("price_id", Text, primary_key=True),
    string("sku"),
    string("kind"),
    string("currency"),
    string("unit"),
    integer("price_nano"),
    integer("valid_from_us"),
    integer("recorded_us"),
    string("source"),
    CheckConstraint("price_nano >= 0", name="not_negative"),
    CheckConstraint("kind in ('on_demand', 'spot', 'reserved', 'internal')", name="kind"),
    Index("ix_price_sku", "sku", "valid_from_us", "recorded_us"),
)

coefficient = make_table(
    "coefficient",
    Column("coef_id", Text, primary_key=True),
    string("kind"),
    string("key"),
    string("value"),
    string("unit"),
    string("low", null=True),
    string("high", null=True),
    integer("year", null=True),
    string("source"),
    string("licence"),
    integer("valid_from_us"),
    integer("recorded_us"),
    Index("ix_coefficient_key", "kind", "key", "valid_from_us", "recorded_us"),
)

model_version = make_table(
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

evidence = make_table(
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

gate_policy = make_table(
    "gate_policy",
    Column("policy_id", Text, primary_key=True),
    string("model"),
    string("policy"),
    string("actor"),
    string("reason"),
    integer("recorded_us"),
    Index("ix_gate_policy_model", "model"),
)

serving_policy = make_table(
    "serving_policy",
    Column("seq", Int, primary_key=True, autoincrement=False),
    string("model"),
    string("policy"),
    string("actor"),
    string("reason"),
    integer("set_us"),
    Index("ix_serving_policy_model", "model", "seq"),
)

api_key = make_table(
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

api_key_revocation = make_table(
    "api_key_revocation",
    Column("key_id", Text, ForeignKey("api_key.key_id"), primary_key=True),
    integer("revoked_us"),
    string("revoked_by"),
    string("reason"),
)

shadow_setting = make_table(
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

version_drain = make_table(
    "version_drain",
    Column("seq", Int, primary_key=True, autoincrement=False),
    string("model"),
    integer("version"),
    string("actor"),
    string("reason"),
    integer("drained_us"),
    Index("ix_version_drain_model", "model", "version", "seq"),
)

run_attempt = make_table(
    "run_attempt",
    string("run_id"),
    integer("attempt"),
    string("model"),
    string("outcome"),
    integer("started_us"),
    integer("ended_us", null=True),
    PrimaryKeyConstraint("run_id", "attempt"),
)


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


supply_window = make_table(
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

usage_window = make_table(
    "usage_window",
    *_window_columns(),
    string("model"),
    integer("version", null=True),
    string("phase"),
    string("activity"),
    string("run_id", null=True),
    integer("attempt", null=True),
    integer("requests"),
    integer("errors"),
    integer("cache_hits"),
    integer("items"),
    integer("tokens_in"),
    integer("tokens_out"),
    integer("busy_ns"),
    Column("flop", ExactInt, nullable=True),
    string("datatype", null=True),
    UniqueConstraint("producer_id", "boot_id", "seq"),
    CheckConstraint("window_end_us > window_start_us", name="ordered"),
    Index("ix_usage_window_resource_id_start", "resource_id", "window_start_us"),
    Index("ix_usage_window_model_version_start", "model", "version", "window_start_us"),
    Index("ix_usage_window_run_id", "run_id"),
)

boot_end = make_table(
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

inferred_window = make_table(
    "inferred_window",
    Column("idem_key", Text, ForeignKey("supply_window.idem_key"), primary_key=True),
    string("resource_id"),
    integer("window_start_us"),
    integer("window_end_us"),
    Index("ix_inferred_window_resource_id", "resource_id"),
)

superseded_window = make_table(
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

usage_conflict = make_table(
    "usage_conflict",
    Column("conflict_id", Text, primary_key=True),
    string("idem_key"),
    string("stored_sha256"),
    string("received_sha256"),
    string("payload"),
    integer("received_us"),
)

account = make_table(
    "account",
    Column("account_id", Int, primary_key=True),
    string("path"),
    string("unit"),
    string("role"),
    string("phase", null=True),
    string("model", null=True),
    integer("version", null=True),
    string("activity", null=True),
    string("run_id", null=True),
    UniqueConstraint("path", "unit"),
    Index("ix_account_model_version", "model", "version"),
)

period = make_table(
    "period",
    Column("period_id", Text, primary_key=True),
    integer("start_us"),
    integer("end_us"),
    string("status"),
    integer("closed_us", null=True),
    string("closed_by", null=True),
    integer("closing_seq", null=True),
    string("totals", null=True),
    CheckConstraint("status in ('open', 'closing', 'closed')", name="status"),
)

batch = make_table(
    "batch",
    Column("batch_id", Text, primary_key=True),
    string("kind"),
    string("method_id"),
    integer("method_version"),
    string("subject"),
    integer("period_start_us"),
    integer("period_end_us"),
    integer("revision"),
    string("inputs_sha256"),
    string("batch_sha256"),
    string("created_by"),
    integer("created_us"),
    string("reason"),
    Index("ix_batch_subject", "subject", "kind"),
)

posted_window = make_table(
    "posted_window",
    Column("idem_key", Text, ForeignKey("supply_window.idem_key"), primary_key=True),
    Column("batch_id", Text, ForeignKey("batch.batch_id"), nullable=False),
)

entry = make_table(
    "entry",
    Column("seq", Int, primary_key=True, autoincrement=False),
    integer("v"),
    Column("batch_id", Text, ForeignKey("batch.batch_id"), nullable=False),
    string("idem_key"),
    string("content_sha256"),
    string("unit"),
    integer("amount"),
    Column("debit_account", Int, ForeignKey("account.account_id"), nullable=False),
    Column("credit_account", Int, ForeignKey("account.account_id"), nullable=False),
    Column("period_id", Text, ForeignKey("period.period_id"), nullable=False),
    integer("period_start_us"),
    integer("period_end_us"),
    integer("recorded_us"),
    string("price_id", null=True),
    string("coef_ids"),
    string("tier", null=True),
    integer("reverses_seq", null=True),
    string("prev_hash"),
    string("hash"),
    UniqueConstraint("idem_key"),
    UniqueConstraint("reverses_seq"),
    CheckConstraint("amount > 0", name="positive"),
    CheckConstraint("debit_account <> credit_account", name="two_accounts"),
    CheckConstraint("period_end_us > period_start_us", name="ordered"),
    Index("ix_entry_debit_start", "debit_account", "period_start_us"),
    Index("ix_entry_credit_start", "credit_account", "period_start_us"),
    Index("ix_entry_batch_id", "batch_id"),
    Index("ix_entry_period_id", "period_id"),
)

chain_head = make_table(
    "chain_head",
    Column("day", Text, primary_key=True),
    integer("seq"),
    string("hash"),
    integer("recorded_us"),
    string("published_to"),
)

ownership = make_table(
    "ownership",
    string("model"),
    string("team"),
    integer("valid_from_us"),
    integer("recorded_us"),
    PrimaryKeyConstraint("model", "valid_from_us", "recorded_us"),
)

budget = make_table(
    "budget",
    Column("budget_id", Text, primary_key=True),
    string("scope_kind"),
    string("scope"),
    string("measure"),
    string("horizon"),
    integer("amount"),
    integer("warn_bp"),
    string("created_by"),
    integer("recorded_us"),
    Column("kind", Text, nullable=False, server_default="limit"),
    CheckConstraint("scope_kind in ('model', 'team')", name="scope_kind"),
    CheckConstraint("amount > 0", name="positive"),
    CheckConstraint("kind in ('limit', 'withdrawal')", name="kind"),
    Index("ix_budget_scope", "scope_kind", "scope", "measure", "horizon"),
)

prediction = make_table(
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

prediction_aside = make_table(
    "prediction_aside",
    integer("segment"),
    integer("place"),
    string("prediction_id"),
    string("record"),
    string("link"),
    PrimaryKeyConstraint("segment", "place"),
    Index("ix_prediction_aside_prediction_id", "prediction_id"),
)

prediction_segment = make_table(
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

prediction_erasure = make_table(
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

label = make_table(
    "label",
    Column("prediction_id", Text, primary_key=True),
    string("classes"),
    string("source"),
    integer("recorded_us"),
)

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

rollout_event = make_table(
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

traffic_intent = make_table(
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

traffic_confirmation = make_table(
    "traffic_confirmation",
    string("model"),
    integer("generation"),
    integer("confirmed_us"),
    PrimaryKeyConstraint("model", "generation"),
)

observation = make_table(
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

promotion = make_table(
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

alias_mirror = make_table(
    "alias_mirror",
    string("model"),
    string("alias"),
    integer("seen", null=True),
    integer("intended", null=True),
    PrimaryKeyConstraint("model", "alias"),
)

alias_drift = make_table(
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

version_deletion = make_table(
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

served_version = make_table(
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

auto_rollout = make_table(
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

application = make_table(
    "application",
    string("model"),
    integer("version"),
    string("phase"),
    string("reason"),
    integer("updated_us"),
    PrimaryKeyConstraint("model", "version"),
)

projection = make_table(
    "projection",
    Column("name", Text, primary_key=True),
    integer("version"),
)

lease = make_table(
    "lease",
    Column("name", Text, primary_key=True),
    string("holder"),
    integer("token"),
    integer("expires_us"),
)

APPEND_ONLY = (
    resource, resource_end, price, coefficient, model_version, run_attempt, supply_window,
    usage_window, inferred_window, superseded_window, boot_end, usage_conflict, account, batch,
    entry, chain_head, ownership, budget, prediction, label, rollout_event, traffic_intent,
    traffic_confirmation, observation, promotion, evidence, gate_policy, serving_policy, api_key,
    api_key_revocation, prediction_segment, prediction_aside, prediction_erasure,
    shadow_setting, version_drain, alias_drift, version_deletion, served_version, auto_rollout,
)  # fmt: skip
"""Facts: rows that never change and never go."""
