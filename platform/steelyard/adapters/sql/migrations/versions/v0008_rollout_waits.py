"""Why a rollout waits and since when, what of it was approved, and with which step it began."""

import sqlalchemy as sa
from alembic import op

from steelyard.adapters.sql.tables import Int

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rollouts that are there were neither approved nor waited for."""
    with op.batch_alter_table("rollout") as table:
        table.add_column(sa.Column("cause", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("since_us", Int, nullable=True))
        table.add_column(sa.Column("stopped_us", Int, nullable=True))
        table.add_column(sa.Column("waited_us", Int, nullable=False, server_default="0"))
        table.add_column(sa.Column("resumed_us", Int, nullable=True))
        table.add_column(sa.Column("approved", Int, nullable=False, server_default="-1"))
        table.add_column(sa.Column("first_step", Int, nullable=False, server_default="0"))
