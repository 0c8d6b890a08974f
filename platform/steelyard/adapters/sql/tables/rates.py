"""What people declare for the books: prices, coefficients, owners, budgets."""

from sqlalchemy import CheckConstraint, Column, Index, PrimaryKeyConstraint, Text

from steelyard.adapters.sql.tables import integer, make_fact_table, string

price = make_fact_table(
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

coefficient = make_fact_table(
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

ownership = make_fact_table(
    "ownership",
    string("model"),
    string("team"),
    integer("valid_from_us"),
    integer("recorded_us"),
    PrimaryKeyConstraint("model", "valid_from_us", "recorded_us"),
)

budget = make_fact_table(
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
