"""The books: accounts, months, batches, entries, and the heads that are published."""

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Text, UniqueConstraint

from steelyard.adapters.sql.tables import Int, integer, make_fact_table, make_table, string
from steelyard.adapters.sql.tables.measured import supply_window

account = make_fact_table(
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

batch = make_fact_table(
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
    Column("idem_key", Text, ForeignKey(supply_window.c.idem_key), primary_key=True),
    Column("batch_id", Text, ForeignKey("batch.batch_id"), nullable=False),
)

entry = make_fact_table(
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

chain_head = make_fact_table(
    "chain_head",
    Column("day", Text, primary_key=True),
    integer("seq"),
    string("hash"),
    integer("recorded_us"),
    string("published_to"),
)
