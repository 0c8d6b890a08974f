"""Every table. Facts are append-only; triggers (``append_only``) refuse UPDATE and DELETE.

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


def _table(name: str, *parts: Column[int] | Column[str] | object) -> Table:
    return Table(name, metadata, *parts, sqlite_strict=True)  # type: ignore[arg-type]


def _int(name: str, *, null: bool = False) -> Column[int]:
    return Column(name, Int, nullable=null)


def _text(name: str, *, null: bool = False) -> Column[str]:
    return Column(name, Text, nullable=null)


resource = _table(
    "resource",
    Column("resource_id", Text, primary_key=True),
    _text("kind"),
    _text("device_model"),
    _int("device_count"),
    _int("slots"),
    _text("price_sku"),
    _int("started_us"),
    _text("region", null=True),
    _text("team", null=True),
    CheckConstraint("device_count > 0 and slots > 0", name="positive"),
)

resource_end = _table(
    "resource_end",
    Column("resource_id", Text, primary_key=True),
    _int("ended_us"),
    _int("inferred"),
)

price = _table(
    "price",
    Column("price_id", Text, primary_key=True),
    _text("sku"),
    _text("kind"),
    _text("currency"),
    _text("unit"),
    _int("price_nano"),
    _int("valid_from_us"),
    _int("recorded_us"),
    _text("source"),
    CheckConstraint("price_nano >= 0", name="not_negative"),
    CheckConstraint("kind in ('on_demand', 'spot', 'reserved', 'internal')", name="kind"),
    Index("ix_price_sku", "sku", "valid_from_us", "recorded_us"),
)

coefficient = _table(
    "coefficient",
    Column("coef_id", Text, primary_key=True),
    _text("kind"),
    _text("key"),
    _text("value"),
    _text("unit"),
    _text("low", null=True),
    _text("high", null=True),
    _int("year", null=True),
    _text("source"),
    _text("licence"),
    _int("valid_from_us"),
    _int("recorded_us"),
    Index("ix_coefficient_key", "kind", "key", "valid_from_us", "recorded_us"),
)

model_version = _table(
    "model_version",
    _text("model"),
    _int("version"),
    _text("variant"),
    _text("relation"),
    _int("parent", null=True),
    _text("run_id"),
    _text("sha256"),
    _int("size_bytes"),
    _int("parameters", null=True),
    Column("flops_forward", ExactInt, nullable=True),
    _int("created_us"),
    PrimaryKeyConstraint("model", "version"),
    Index("ix_model_version_run_id", "run_id"),
)

run_attempt = _table(
    "run_attempt",
    _text("run_id"),
    _int("attempt"),
    _text("model"),
    _text("outcome"),
    _int("started_us"),
    _int("ended_us", null=True),
    PrimaryKeyConstraint("run_id", "attempt"),
)


def _window_columns() -> list[object]:
    return [
        Column("idem_key", Text, primary_key=True),
        _text("content_sha256"),
        _text("producer_id"),
        _text("boot_id"),
        _int("seq"),
        Column("resource_id", Text, ForeignKey("resource.resource_id"), nullable=False),
        _int("window_start_us"),
        _int("window_end_us"),
        _int("received_us"),
    ]


supply_window = _table(
    "supply_window",
    *_window_columns(),
    _int("reserved_us"),
    _int("cpu_us", null=True),
    _int("energy_mj", null=True),
    _text("energy_method"),
    _text("energy_boundary", null=True),
    UniqueConstraint("resource_id", "window_start_us"),
    UniqueConstraint("producer_id", "boot_id", "seq"),
    CheckConstraint("window_end_us > window_start_us", name="ordered"),
    CheckConstraint("(energy_mj is null) = (energy_method = 'unknown')", name="unknown"),
)

usage_window = _table(
    "usage_window",
    *_window_columns(),
    _text("model"),
    _int("version", null=True),
    _text("phase"),
    _text("activity"),
    _text("run_id", null=True),
    _int("attempt", null=True),
    _int("requests"),
    _int("errors"),
    _int("cache_hits"),
    _int("items"),
    _int("tokens_in"),
    _int("tokens_out"),
    _int("busy_ns"),
    Column("flop", ExactInt, nullable=True),
    UniqueConstraint("producer_id", "boot_id", "seq"),
    CheckConstraint("window_end_us > window_start_us", name="ordered"),
    Index("ix_usage_window_resource_id_start", "resource_id", "window_start_us"),
    Index("ix_usage_window_model_version_start", "model", "version", "window_start_us"),
    Index("ix_usage_window_run_id", "run_id"),
)

boot_end = _table(
    "boot_end",
    _text("producer_id"),
    _text("boot_id"),
    _int("last_seq"),
    _int("ended_us"),
    PrimaryKeyConstraint("producer_id", "boot_id"),
)

waiting_window = _table(
    "waiting_window",
    Column("idem_key", Text, ForeignKey("supply_window.idem_key"), primary_key=True),
    _int("window_start_us"),
    Index("ix_waiting_window_start", "window_start_us"),
)

resource_seen = _table(
    "resource_seen",
    Column("resource_id", Text, ForeignKey("resource.resource_id"), primary_key=True),
    _int("last_us"),
)

resource_owner = _table(
    "resource_owner",
    Column("resource_id", Text, ForeignKey("resource.resource_id"), nullable=False),
    _text("model"),
    _int("version"),
    _text("phase"),
    _text("run_id"),
    PrimaryKeyConstraint("resource_id", "model", "version", "phase", "run_id"),
)

late_usage = _table(
    "late_usage",
    Column("idem_key", Text, ForeignKey("usage_window.idem_key"), primary_key=True),
    _text("resource_id"),
    _int("window_start_us"),
)

usage_conflict = _table(
    "usage_conflict",
    Column("conflict_id", Text, primary_key=True),
    _text("idem_key"),
    _text("stored_sha256"),
    _text("received_sha256"),
    _text("payload"),
    _int("received_us"),
)

account = _table(
    "account",
    Column("account_id", Int, primary_key=True),
    _text("path"),
    _text("unit"),
    _text("role"),
    _text("phase", null=True),
    _text("model", null=True),
    _int("version", null=True),
    _text("activity", null=True),
    _text("run_id", null=True),
    UniqueConstraint("path", "unit"),
    Index("ix_account_model_version", "model", "version"),
)

period = _table(
    "period",
    Column("period_id", Text, primary_key=True),
    _int("start_us"),
    _int("end_us"),
    _text("status"),
    _int("closed_us", null=True),
    _text("closed_by", null=True),
    _int("closing_seq", null=True),
    _text("totals", null=True),
    CheckConstraint("status in ('open', 'closing', 'closed')", name="status"),
)

batch = _table(
    "batch",
    Column("batch_id", Text, primary_key=True),
    _text("kind"),
    _text("method_id"),
    _int("method_version"),
    _text("subject"),
    _int("period_start_us"),
    _int("period_end_us"),
    _int("revision"),
    _text("inputs_sha256"),
    _text("batch_sha256"),
    _text("created_by"),
    _int("created_us"),
    _text("reason"),
    Index("ix_batch_subject", "subject", "kind"),
)

posted_window = _table(
    "posted_window",
    Column("idem_key", Text, ForeignKey("supply_window.idem_key"), primary_key=True),
    Column("batch_id", Text, ForeignKey("batch.batch_id"), nullable=False),
)

entry = _table(
    "entry",
    Column("seq", Int, primary_key=True, autoincrement=False),
    _int("v"),
    Column("batch_id", Text, ForeignKey("batch.batch_id"), nullable=False),
    _text("idem_key"),
    _text("content_sha256"),
    _text("unit"),
    _int("amount"),
    Column("debit_account", Int, ForeignKey("account.account_id"), nullable=False),
    Column("credit_account", Int, ForeignKey("account.account_id"), nullable=False),
    Column("period_id", Text, ForeignKey("period.period_id"), nullable=False),
    _int("period_start_us"),
    _int("period_end_us"),
    _int("recorded_us"),
    _text("price_id", null=True),
    _text("coef_ids"),
    _text("tier", null=True),
    _int("reverses_seq", null=True),
    _text("prev_hash"),
    _text("hash"),
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

chain_head = _table(
    "chain_head",
    Column("day", Text, primary_key=True),
    _int("seq"),
    _text("hash"),
    _int("recorded_us"),
    _text("published_to"),
)

balance = _table(
    "balance",
    Column("account_id", Int, ForeignKey("account.account_id"), nullable=False),
    _text("tier"),
    _int("amount"),
    PrimaryKeyConstraint("account_id", "tier"),
)

rollup_day = _table(
    "rollup_day",
    Column("account_id", Int, ForeignKey("account.account_id"), nullable=False),
    _int("day"),
    _text("tier"),
    _int("amount"),
    PrimaryKeyConstraint("account_id", "day", "tier"),
    Index("ix_rollup_day_day", "day"),
)

usage_day = _table(
    "usage_day",
    _text("model"),
    _int("version"),
    _int("day"),
    _text("phase"),
    _text("activity"),
    _text("run_id"),
    _int("windows"),
    _int("requests"),
    _int("errors"),
    _int("cache_hits"),
    _int("items"),
    _int("tokens_in"),
    _int("tokens_out"),
    _int("busy_ns"),
    Column("flop", ExactInt, nullable=False),
    _int("flop_windows"),
    _int("start_us"),
    _int("end_us"),
    PrimaryKeyConstraint("model", "version", "day", "phase", "activity", "run_id"),
)

boot = _table(
    "boot",
    _text("producer_id"),
    _text("boot_id"),
    _text("model", null=True),
    _int("received"),
    _int("highest_seq"),
    _int("start_us"),
    _int("end_us"),
    PrimaryKeyConstraint("producer_id", "boot_id"),
    Index("ix_boot_model", "model"),
)

ownership = _table(
    "ownership",
    _text("model"),
    _text("team"),
    _int("valid_from_us"),
    _int("recorded_us"),
    PrimaryKeyConstraint("model", "valid_from_us", "recorded_us"),
)

budget = _table(
    "budget",
    Column("budget_id", Text, primary_key=True),
    _text("scope_kind"),
    _text("scope"),
    _text("measure"),
    _text("horizon"),
    _int("amount"),
    _int("warn_bp"),
    _text("created_by"),
    _int("recorded_us"),
    CheckConstraint("scope_kind in ('model', 'team')", name="scope_kind"),
    CheckConstraint("amount > 0", name="positive"),
    Index("ix_budget_scope", "scope_kind", "scope", "measure", "horizon"),
)

prediction = _table(
    "prediction",
    Column("prediction_id", Text, primary_key=True),
    _text("model"),
    _int("version"),
    _text("sha256"),
    _text("resource_id"),
    _text("arm"),
    _text("lineage"),
    _int("generation"),
    _int("bucket", null=True),
    _int("received_us"),
    _int("busy_ns"),
    _int("items"),
    _int("status"),
    _text("unit_sha256", null=True),
    _text("inputs_sha256", null=True),
    _text("classes", null=True),
    _text("error", null=True),
    Index("ix_prediction_model_lineage_received", "model", "lineage", "received_us"),
)

label = _table(
    "label",
    Column("prediction_id", Text, primary_key=True),
    _text("classes"),
    _text("source"),
    _int("recorded_us"),
)

rollout = _table(
    "rollout",
    Column("rollout_id", Text, primary_key=True),
    _text("model"),
    _text("kind"),
    _int("stable", null=True),
    _int("candidate"),
    _text("plan"),
    _text("lineage"),
    _text("phase"),
    _text("condition"),
    _int("step"),
    _int("weight_bp"),
    _int("generation"),
    _int("confirmed_us", null=True),
    _text("reason"),
    _text("created_by"),
    _int("created_us"),
    _int("updated_us"),
    _int("ended_us", null=True),
    _int("row_version"),
    Index(
        "uq_rollout_open",
        "model",
        unique=True,
        sqlite_where=text("phase in ('progressing', 'paused')"),
        postgresql_where=text("phase in ('progressing', 'paused')"),
    ),
)

rollout_event = _table(
    "rollout_event",
    Column("seq", Int, primary_key=True, autoincrement=False),
    _text("rollout_id"),
    _int("at_us"),
    _text("actor"),
    _text("verb"),
    _text("from_condition"),
    _text("to_condition"),
    _int("step"),
    _int("weight_bp"),
    _int("generation"),
    _text("reason"),
    _text("evidence"),
    _text("prev_hash"),
    _text("hash"),
    Index("ix_rollout_event_rollout_id", "rollout_id"),
)

traffic_intent = _table(
    "traffic_intent",
    _text("model"),
    _int("generation"),
    _text("rollout_id"),
    _int("stable"),
    _int("canary", null=True),
    _int("weight_bp"),
    _text("lineage"),
    _int("step"),
    _int("created_us"),
    PrimaryKeyConstraint("model", "generation"),
)

traffic_confirmation = _table(
    "traffic_confirmation",
    _text("model"),
    _int("generation"),
    _int("confirmed_us"),
    PrimaryKeyConstraint("model", "generation"),
)

observation = _table(
    "observation",
    _text("rollout_id"),
    _text("metric"),
    _int("generation"),
    _int("interval_start_us"),
    _int("n_canary"),
    _int("x_canary"),
    _int("n_stable"),
    _int("x_stable"),
    _int("recorded_us"),
    PrimaryKeyConstraint("rollout_id", "metric", "generation", "interval_start_us"),
)

promotion = _table(
    "promotion",
    Column("seq", Int, primary_key=True, autoincrement=False),
    _int("at_us"),
    _text("model"),
    _text("alias"),
    _int("from_version", null=True),
    _int("to_version"),
    _text("actor"),
    _text("verb"),
    _text("reason"),
    _text("rollout_id"),
    _text("sha256"),
    _text("prev_hash"),
    _text("hash"),
    Index("ix_promotion_model", "model", "seq"),
)

application = _table(
    "application",
    _text("model"),
    _int("version"),
    _text("phase"),
    _text("reason"),
    _int("updated_us"),
    PrimaryKeyConstraint("model", "version"),
)

lease = _table(
    "lease",
    Column("name", Text, primary_key=True),
    _text("holder"),
    _int("token"),
    _int("expires_us"),
)

APPEND_ONLY = (
    resource, resource_end, price, coefficient, model_version, run_attempt, supply_window,
    usage_window, boot_end, usage_conflict, account, batch, entry, chain_head, ownership, budget,
    prediction, label, rollout_event, traffic_intent, traffic_confirmation, observation, promotion,
)  # fmt: skip
"""Facts: rows that never change and never go."""
