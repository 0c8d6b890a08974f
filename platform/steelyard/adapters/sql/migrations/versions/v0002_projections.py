"""Sums are no longer part of the schema; usage says which arithmetic it was done in."""

import sqlalchemy as sa
from alembic import op

from steelyard.adapters.sql.tables import Int

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drop the first version's sums, which are made anew, and add the datatype."""
    for name in ("balance", "rollup_day", "usage_day", "boot"):
        op.drop_table(name)
    op.create_table(
        "projection",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", Int, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_projection")),
        sqlite_strict=True,
    )
    op.add_column("usage_window", sa.Column("datatype", sa.Text(), nullable=True))
