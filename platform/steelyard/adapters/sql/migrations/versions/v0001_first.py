"""The first schema: windows, entries, predictions, rollouts, promotions; and their triggers."""

import sqlalchemy as sa
from alembic import op

from steelyard.adapters.sql.append_only import (
    REFUSE,
    Keys,
    postgresql_keeping,
    postgresql_ledger,
    sqlite_keeping,
    sqlite_ledger,
)
from steelyard.adapters.sql.tables import Int
from steelyard.adapters.sql.types import ExactInt

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY: dict[str, Keys] = {
    "resource": (("resource_id",),),
    "resource_end": (("resource_id",),),
    "price": (("price_id",),),
    "coefficient": (("coef_id",),),
    "model_version": (("model", "version"),),
    "run_attempt": (("run_id", "attempt"),),
    "supply_window": (
        ("idem_key",), ("producer_id", "boot_id", "seq"), ("resource_id", "window_start_us"),
    ),
    "usage_window": (("idem_key",), ("producer_id", "boot_id", "seq")),
    "boot_end": (("producer_id", "boot_id"),),
    "usage_conflict": (("conflict_id",),),
    "account": (("account_id",), ("path", "unit")),
    "batch": (("batch_id",),),
    "entry": (("idem_key",), ("reverses_seq",), ("seq",)),
    "chain_head": (("day",),),
    "ownership": (("model", "valid_from_us", "recorded_us"),),
    "budget": (("budget_id",),),
    "prediction": (("prediction_id",),),
    "label": (("prediction_id",),),
    "rollout_event": (("seq",),),
    "traffic_intent": (("model", "generation"),),
    "traffic_confirmation": (("model", "generation"),),
    "observation": (("rollout_id", "metric", "generation", "interval_start_us"),),
    "promotion": (("seq",),),
}  # fmt: skip
"""Tables that nobody may change, each with its keys, as this migration creates them."""


def upgrade() -> None:
    """Create every table, then the triggers of the dialect."""
    op.create_table(
        "account",
        sa.Column("account_id", Int, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("version", Int, nullable=True),
        sa.Column("activity", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_account")),
        sa.UniqueConstraint("path", "unit", name=op.f("uq_account_path_unit")),
        sqlite_strict=True,
    )
    op.create_index("ix_account_model_version", "account", ["model", "version"], unique=False)
    op.create_table(
        "application",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", Int, nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("updated_us", Int, nullable=False),
        sa.PrimaryKeyConstraint("model", "version", name=op.f("pk_application")),
        sqlite_strict=True,
    )
    op.create_table(
        "batch",
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("method_id", sa.Text(), nullable=False),
        sa.Column("method_version", Int, nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("period_start_us", Int, nullable=False),
        sa.Column("period_end_us", Int, nullable=False),
        sa.Column("revision", Int, nullable=False),
        sa.Column("inputs_sha256", sa.Text(), nullable=False),
        sa.Column("batch_sha256", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_us", Int, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", name=op.f("pk_batch")),
        sqlite_strict=True,
    )
    op.create_index("ix_batch_subject", "batch", ["subject", "kind"], unique=False)
    op.create_table(
        "boot",
        sa.Column("producer_id", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("received", Int, nullable=False),
        sa.Column("highest_seq", Int, nullable=False),
        sa.Column("start_us", Int, nullable=False),
        sa.Column("end_us", Int, nullable=False),
        sa.PrimaryKeyConstraint("producer_id", "boot_id", name=op.f("pk_boot")),
        sqlite_strict=True,
    )
    op.create_index("ix_boot_model", "boot", ["model"], unique=False)
    op.create_table(
        "boot_end",
        sa.Column("producer_id", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("last_seq", Int, nullable=False),
        sa.Column("ended_us", Int, nullable=False),
        sa.PrimaryKeyConstraint("producer_id", "boot_id", name=op.f("pk_boot_end")),
        sqlite_strict=True,
    )
    op.create_table(
        "budget",
        sa.Column("budget_id", sa.Text(), nullable=False),
        sa.Column("scope_kind", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("measure", sa.Text(), nullable=False),
        sa.Column("horizon", sa.Text(), nullable=False),
        sa.Column("amount", Int, nullable=False),
        sa.Column("warn_bp", Int, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("recorded_us", Int, nullable=False),
        sa.CheckConstraint("scope_kind in ('model', 'team')", name=op.f("ck_budget_scope_kind")),
        sa.CheckConstraint("amount > 0", name=op.f("ck_budget_positive")),
        sa.PrimaryKeyConstraint("budget_id", name=op.f("pk_budget")),
        sqlite_strict=True,
    )
    op.create_index(
        "ix_budget_scope", "budget", ["scope_kind", "scope", "measure", "horizon"], unique=False
    )
    op.create_table(
        "chain_head",
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("seq", Int, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("recorded_us", Int, nullable=False),
        sa.Column("published_to", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_chain_head")),
        sqlite_strict=True,
    )
    op.create_table(
        "coefficient",
        sa.Column("coef_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("low", sa.Text(), nullable=True),
        sa.Column("high", sa.Text(), nullable=True),
        sa.Column("year", Int, nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("licence", sa.Text(), nullable=False),
        sa.Column("valid_from_us", Int, nullable=False),
        sa.Column("recorded_us", Int, nullable=False),
        sa.PrimaryKeyConstraint("coef_id", name=op.f("pk_coefficient")),
        sqlite_strict=True,
    )
    op.create_index(
        "ix_coefficient_key",
        "coefficient",
        ["kind", "key", "valid_from_us", "recorded_us"],
        unique=False,
    )
    op.create_table(
        "label",
        sa.Column("prediction_id", sa.Text(), nullable=False),
        sa.Column("classes", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("recorded_us", Int, nullable=False),
        sa.PrimaryKeyConstraint("prediction_id", name=op.f("pk_label")),
        sqlite_strict=True,
    )
    op.create_table(
        "lease",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("token", Int, nullable=False),
        sa.Column("expires_us", Int, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lease")),
        sqlite_strict=True,
    )
    op.create_table(
        "model_version",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", Int, nullable=False),
        sa.Column("variant", sa.Text(), nullable=False),
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("parent", Int, nullable=True),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", Int, nullable=False),
        sa.Column("parameters", Int, nullable=True),
        sa.Column("flops_forward", ExactInt(precision=40, scale=0), nullable=True),
        sa.Column("created_us", Int, nullable=False),
        sa.PrimaryKeyConstraint("model", "version", name=op.f("pk_model_version")),
        sqlite_strict=True,
    )
    op.create_index("ix_model_version_run_id", "model_version", ["run_id"], unique=False)
    op.create_table(
        "observation",
        sa.Column("rollout_id", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("generation", Int, nullable=False),
        sa.Column("interval_start_us", Int, nullable=False),
        sa.Column("n_canary", Int, nullable=False),
        sa.Column("x_canary", Int, nullable=False),
        sa.Column("n_stable", Int, nullable=False),
        sa.Column("x_stable", Int, nullable=False),
        sa.Column("recorded_us", Int, nullable=False),
        sa.PrimaryKeyConstraint(
            "rollout_id", "metric", "generation", "interval_start_us", name=op.f("pk_observation")
        ),
        sqlite_strict=True,
    )
    op.create_table(
        "ownership",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("valid_from_us", Int, nullable=False),
        sa.Column("recorded_us", Int, nullable=False),
        sa.PrimaryKeyConstraint("model", "valid_from_us", "recorded_us", name=op.f("pk_ownership")),
        sqlite_strict=True,
    )
    op.create_table(
        "period",
        sa.Column("period_id", sa.Text(), nullable=False),
        sa.Column("start_us", Int, nullable=False),
        sa.Column("end_us", Int, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("closed_us", Int, nullable=True),
        sa.Column("closed_by", sa.Text(), nullable=True),
        sa.Column("closing_seq", Int, nullable=True),
        sa.Column("totals", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "status in ('open', 'closing', 'closed')", name=op.f("ck_period_status")
        ),
        sa.PrimaryKeyConstraint("period_id", name=op.f("pk_period")),
        sqlite_strict=True,
    )
    op.create_table(
        "prediction",
        sa.Column("prediction_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", Int, nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("arm", sa.Text(), nullable=False),
        sa.Column("lineage", sa.Text(), nullable=False),
        sa.Column("generation", Int, nullable=False),
        sa.Column("bucket", Int, nullable=True),
        sa.Column("received_us", Int, nullable=False),
        sa.Column("busy_ns", Int, nullable=False),
        sa.Column("items", Int, nullable=False),
        sa.Column("status", Int, nullable=False),
        sa.Column("unit_sha256", sa.Text(), nullable=True),
        sa.Column("inputs_sha256", sa.Text(), nullable=True),
        sa.Column("classes", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("prediction_id", name=op.f("pk_prediction")),
        sqlite_strict=True,
    )
    op.create_index(
        "ix_prediction_model_lineage_received",
        "prediction",
        ["model", "lineage", "received_us"],
        unique=False,
    )
    op.create_table(
        "price",
        sa.Column("price_id", sa.Text(), nullable=False),
        sa.Column("sku", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("price_nano", Int, nullable=False),
        sa.Column("valid_from_us", Int, nullable=False),
        sa.Column("recorded_us", Int, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "kind in ('on_demand', 'spot', 'reserved', 'internal')", name=op.f("ck_price_kind")
        ),
        sa.CheckConstraint("price_nano >= 0", name=op.f("ck_price_not_negative")),
        sa.PrimaryKeyConstraint("price_id", name=op.f("pk_price")),
        sqlite_strict=True,
    )
    op.create_index("ix_price_sku", "price", ["sku", "valid_from_us", "recorded_us"], unique=False)
    op.create_table(
        "promotion",
        sa.Column("seq", Int, autoincrement=False, nullable=False),
        sa.Column("at_us", Int, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("from_version", Int, nullable=True),
        sa.Column("to_version", Int, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("rollout_id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("prev_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_promotion")),
        sqlite_strict=True,
    )
    op.create_index("ix_promotion_model", "promotion", ["model", "seq"], unique=False)
    op.create_table(
        "resource",
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("device_model", sa.Text(), nullable=False),
        sa.Column("device_count", Int, nullable=False),
        sa.Column("slots", Int, nullable=False),
        sa.Column("price_sku", sa.Text(), nullable=False),
        sa.Column("started_us", Int, nullable=False),
        sa.Column("region", sa.Text(), nullable=True),
        sa.Column("team", sa.Text(), nullable=True),
        sa.CheckConstraint("device_count > 0 and slots > 0", name=op.f("ck_resource_positive")),
        sa.PrimaryKeyConstraint("resource_id", name=op.f("pk_resource")),
        sqlite_strict=True,
    )
    op.create_table(
        "resource_end",
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("ended_us", Int, nullable=False),
        sa.Column("inferred", Int, nullable=False),
        sa.PrimaryKeyConstraint("resource_id", name=op.f("pk_resource_end")),
        sqlite_strict=True,
    )
    op.create_table(
        "rollout",
        sa.Column("rollout_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("stable", Int, nullable=True),
        sa.Column("candidate", Int, nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("lineage", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("condition", sa.Text(), nullable=False),
        sa.Column("step", Int, nullable=False),
        sa.Column("weight_bp", Int, nullable=False),
        sa.Column("generation", Int, nullable=False),
        sa.Column("confirmed_us", Int, nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_us", Int, nullable=False),
        sa.Column("updated_us", Int, nullable=False),
        sa.Column("ended_us", Int, nullable=True),
        sa.Column("row_version", Int, nullable=False),
        sa.PrimaryKeyConstraint("rollout_id", name=op.f("pk_rollout")),
        sqlite_strict=True,
    )
    op.create_index(
        "uq_rollout_open",
        "rollout",
        ["model"],
        unique=True,
        sqlite_where=sa.text("phase in ('progressing', 'paused')"),
        postgresql_where=sa.text("phase in ('progressing', 'paused')"),
    )
    op.create_table(
        "rollout_event",
        sa.Column("seq", Int, autoincrement=False, nullable=False),
        sa.Column("rollout_id", sa.Text(), nullable=False),
        sa.Column("at_us", Int, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("from_condition", sa.Text(), nullable=False),
        sa.Column("to_condition", sa.Text(), nullable=False),
        sa.Column("step", Int, nullable=False),
        sa.Column("weight_bp", Int, nullable=False),
        sa.Column("generation", Int, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("prev_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_rollout_event")),
        sqlite_strict=True,
    )
    op.create_index("ix_rollout_event_rollout_id", "rollout_event", ["rollout_id"], unique=False)
    op.create_table(
        "run_attempt",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("attempt", Int, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("started_us", Int, nullable=False),
        sa.Column("ended_us", Int, nullable=True),
        sa.PrimaryKeyConstraint("run_id", "attempt", name=op.f("pk_run_attempt")),
        sqlite_strict=True,
    )
    op.create_table(
        "traffic_confirmation",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("generation", Int, nullable=False),
        sa.Column("confirmed_us", Int, nullable=False),
        sa.PrimaryKeyConstraint("model", "generation", name=op.f("pk_traffic_confirmation")),
        sqlite_strict=True,
    )
    op.create_table(
        "traffic_intent",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("generation", Int, nullable=False),
        sa.Column("rollout_id", sa.Text(), nullable=False),
        sa.Column("stable", Int, nullable=False),
        sa.Column("canary", Int, nullable=True),
        sa.Column("weight_bp", Int, nullable=False),
        sa.Column("lineage", sa.Text(), nullable=False),
        sa.Column("step", Int, nullable=False),
        sa.Column("created_us", Int, nullable=False),
        sa.PrimaryKeyConstraint("model", "generation", name=op.f("pk_traffic_intent")),
        sqlite_strict=True,
    )
    op.create_table(
        "usage_conflict",
        sa.Column("conflict_id", sa.Text(), nullable=False),
        sa.Column("idem_key", sa.Text(), nullable=False),
        sa.Column("stored_sha256", sa.Text(), nullable=False),
        sa.Column("received_sha256", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("received_us", Int, nullable=False),
        sa.PrimaryKeyConstraint("conflict_id", name=op.f("pk_usage_conflict")),
        sqlite_strict=True,
    )
    op.create_table(
        "usage_day",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", Int, nullable=False),
        sa.Column("day", Int, nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("activity", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("windows", Int, nullable=False),
        sa.Column("requests", Int, nullable=False),
        sa.Column("errors", Int, nullable=False),
        sa.Column("cache_hits", Int, nullable=False),
        sa.Column("items", Int, nullable=False),
        sa.Column("tokens_in", Int, nullable=False),
        sa.Column("tokens_out", Int, nullable=False),
        sa.Column("busy_ns", Int, nullable=False),
        sa.Column("flop", ExactInt(precision=40, scale=0), nullable=False),
        sa.Column("flop_windows", Int, nullable=False),
        sa.Column("start_us", Int, nullable=False),
        sa.Column("end_us", Int, nullable=False),
        sa.PrimaryKeyConstraint(
            "model", "version", "day", "phase", "activity", "run_id", name=op.f("pk_usage_day")
        ),
        sqlite_strict=True,
    )
    op.create_table(
        "balance",
        sa.Column("account_id", Int, nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("amount", Int, nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.account_id"], name=op.f("fk_balance_account_id")
        ),
        sa.PrimaryKeyConstraint("account_id", "tier", name=op.f("pk_balance")),
        sqlite_strict=True,
    )
    op.create_table(
        "entry",
        sa.Column("seq", Int, autoincrement=False, nullable=False),
        sa.Column("v", Int, nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("idem_key", sa.Text(), nullable=False),
        sa.Column("content_sha256", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("amount", Int, nullable=False),
        sa.Column("debit_account", Int, nullable=False),
        sa.Column("credit_account", Int, nullable=False),
        sa.Column("period_id", sa.Text(), nullable=False),
        sa.Column("period_start_us", Int, nullable=False),
        sa.Column("period_end_us", Int, nullable=False),
        sa.Column("recorded_us", Int, nullable=False),
        sa.Column("price_id", sa.Text(), nullable=True),
        sa.Column("coef_ids", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=True),
        sa.Column("reverses_seq", Int, nullable=True),
        sa.Column("prev_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.CheckConstraint("amount > 0", name=op.f("ck_entry_positive")),
        sa.CheckConstraint("debit_account <> credit_account", name=op.f("ck_entry_two_accounts")),
        sa.CheckConstraint("period_end_us > period_start_us", name=op.f("ck_entry_ordered")),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.batch_id"], name=op.f("fk_entry_batch_id")),
        sa.ForeignKeyConstraint(
            ["credit_account"], ["account.account_id"], name=op.f("fk_entry_credit_account")
        ),
        sa.ForeignKeyConstraint(
            ["debit_account"], ["account.account_id"], name=op.f("fk_entry_debit_account")
        ),
        sa.ForeignKeyConstraint(
            ["period_id"], ["period.period_id"], name=op.f("fk_entry_period_id")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_entry")),
        sa.UniqueConstraint("idem_key", name=op.f("uq_entry_idem_key")),
        sa.UniqueConstraint("reverses_seq", name=op.f("uq_entry_reverses_seq")),
        sqlite_strict=True,
    )
    op.create_index("ix_entry_batch_id", "entry", ["batch_id"], unique=False)
    op.create_index(
        "ix_entry_credit_start", "entry", ["credit_account", "period_start_us"], unique=False
    )
    op.create_index(
        "ix_entry_debit_start", "entry", ["debit_account", "period_start_us"], unique=False
    )
    op.create_index("ix_entry_period_id", "entry", ["period_id"], unique=False)
    op.create_table(
        "resource_owner",
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", Int, nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["resource_id"], ["resource.resource_id"], name=op.f("fk_resource_owner_resource_id")
        ),
        sa.PrimaryKeyConstraint(
            "resource_id", "model", "version", "phase", "run_id", name=op.f("pk_resource_owner")
        ),
        sqlite_strict=True,
    )
    op.create_table(
        "resource_seen",
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("last_us", Int, nullable=False),
        sa.ForeignKeyConstraint(
            ["resource_id"], ["resource.resource_id"], name=op.f("fk_resource_seen_resource_id")
        ),
        sa.PrimaryKeyConstraint("resource_id", name=op.f("pk_resource_seen")),
        sqlite_strict=True,
    )
    op.create_table(
        "rollup_day",
        sa.Column("account_id", Int, nullable=False),
        sa.Column("day", Int, nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("amount", Int, nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.account_id"], name=op.f("fk_rollup_day_account_id")
        ),
        sa.PrimaryKeyConstraint("account_id", "day", "tier", name=op.f("pk_rollup_day")),
        sqlite_strict=True,
    )
    op.create_index("ix_rollup_day_day", "rollup_day", ["day"], unique=False)
    op.create_table(
        "supply_window",
        sa.Column("idem_key", sa.Text(), nullable=False),
        sa.Column("content_sha256", sa.Text(), nullable=False),
        sa.Column("producer_id", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("seq", Int, nullable=False),
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("window_start_us", Int, nullable=False),
        sa.Column("window_end_us", Int, nullable=False),
        sa.Column("received_us", Int, nullable=False),
        sa.Column("reserved_us", Int, nullable=False),
        sa.Column("cpu_us", Int, nullable=True),
        sa.Column("energy_mj", Int, nullable=True),
        sa.Column("energy_method", sa.Text(), nullable=False),
        sa.Column("energy_boundary", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(energy_mj is null) = (energy_method = 'unknown')",
            name=op.f("ck_supply_window_unknown"),
        ),
        sa.CheckConstraint(
            "window_end_us > window_start_us", name=op.f("ck_supply_window_ordered")
        ),
        sa.ForeignKeyConstraint(
            ["resource_id"], ["resource.resource_id"], name=op.f("fk_supply_window_resource_id")
        ),
        sa.PrimaryKeyConstraint("idem_key", name=op.f("pk_supply_window")),
        sa.UniqueConstraint(
            "producer_id", "boot_id", "seq", name=op.f("uq_supply_window_producer_id_boot_id_seq")
        ),
        sa.UniqueConstraint(
            "resource_id",
            "window_start_us",
            name=op.f("uq_supply_window_resource_id_window_start_us"),
        ),
        sqlite_strict=True,
    )
    op.create_table(
        "usage_window",
        sa.Column("idem_key", sa.Text(), nullable=False),
        sa.Column("content_sha256", sa.Text(), nullable=False),
        sa.Column("producer_id", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("seq", Int, nullable=False),
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("window_start_us", Int, nullable=False),
        sa.Column("window_end_us", Int, nullable=False),
        sa.Column("received_us", Int, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", Int, nullable=True),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("activity", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("attempt", Int, nullable=True),
        sa.Column("requests", Int, nullable=False),
        sa.Column("errors", Int, nullable=False),
        sa.Column("cache_hits", Int, nullable=False),
        sa.Column("items", Int, nullable=False),
        sa.Column("tokens_in", Int, nullable=False),
        sa.Column("tokens_out", Int, nullable=False),
        sa.Column("busy_ns", Int, nullable=False),
        sa.Column("flop", ExactInt(precision=40, scale=0), nullable=True),
        sa.CheckConstraint("window_end_us > window_start_us", name=op.f("ck_usage_window_ordered")),
        sa.ForeignKeyConstraint(
            ["resource_id"], ["resource.resource_id"], name=op.f("fk_usage_window_resource_id")
        ),
        sa.PrimaryKeyConstraint("idem_key", name=op.f("pk_usage_window")),
        sa.UniqueConstraint(
            "producer_id", "boot_id", "seq", name=op.f("uq_usage_window_producer_id_boot_id_seq")
        ),
        sqlite_strict=True,
    )
    op.create_index(
        "ix_usage_window_model_version_start",
        "usage_window",
        ["model", "version", "window_start_us"],
        unique=False,
    )
    op.create_index(
        "ix_usage_window_resource_id_start",
        "usage_window",
        ["resource_id", "window_start_us"],
        unique=False,
    )
    op.create_index("ix_usage_window_run_id", "usage_window", ["run_id"], unique=False)
    op.create_table(
        "late_usage",
        sa.Column("idem_key", sa.Text(), nullable=False),
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("window_start_us", Int, nullable=False),
        sa.ForeignKeyConstraint(
            ["idem_key"], ["usage_window.idem_key"], name=op.f("fk_late_usage_idem_key")
        ),
        sa.PrimaryKeyConstraint("idem_key", name=op.f("pk_late_usage")),
        sqlite_strict=True,
    )
    op.create_table(
        "posted_window",
        sa.Column("idem_key", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batch.batch_id"], name=op.f("fk_posted_window_batch_id")
        ),
        sa.ForeignKeyConstraint(
            ["idem_key"], ["supply_window.idem_key"], name=op.f("fk_posted_window_idem_key")
        ),
        sa.PrimaryKeyConstraint("idem_key", name=op.f("pk_posted_window")),
        sqlite_strict=True,
    )
    op.create_table(
        "waiting_window",
        sa.Column("idem_key", sa.Text(), nullable=False),
        sa.Column("window_start_us", Int, nullable=False),
        sa.ForeignKeyConstraint(
            ["idem_key"], ["supply_window.idem_key"], name=op.f("fk_waiting_window_idem_key")
        ),
        sa.PrimaryKeyConstraint("idem_key", name=op.f("pk_waiting_window")),
        sqlite_strict=True,
    )
    op.create_index("ix_waiting_window_start", "waiting_window", ["window_start_us"], unique=False)
    sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in (
        (*sqlite_keeping(APPEND_ONLY), *sqlite_ledger((("period_id",),)))
        if sqlite
        else (REFUSE, *postgresql_keeping(APPEND_ONLY), *postgresql_ledger())
    ):
        op.execute(sa.text(statement))
