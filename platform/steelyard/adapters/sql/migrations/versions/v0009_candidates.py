"""Candidates of one model beside each other: the region of each, and tables of many arms."""

import sqlalchemy as sa
from alembic import op

from steelyard.adapters.sql.tables import Int

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

OPEN = sa.text("phase in ('progressing', 'paused')")


def upgrade() -> None:
    """Rollouts that are there own all buckets; their tables keep the one arm that they say."""
    with op.batch_alter_table("rollout") as table:
        table.add_column(sa.Column("offset_bp", Int, nullable=False, server_default="0"))
        table.add_column(sa.Column("max_weight_bp", Int, nullable=False, server_default="10000"))
    op.drop_index("uq_rollout_open", table_name="rollout")
    op.create_index(
        "uq_rollout_open", "rollout", ["model", "candidate"], unique=True,
        sqlite_where=OPEN, postgresql_where=OPEN,
    )  # fmt: skip
    op.add_column("traffic_intent", sa.Column("shares", sa.Text(), nullable=True))
