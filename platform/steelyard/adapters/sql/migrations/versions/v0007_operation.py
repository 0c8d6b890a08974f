"""What operators ask of versions: shadows, and an early end of service."""

import sqlalchemy as sa
from alembic import op

from steelyard.adapters.sql.append_only import Keys, postgresql_keeping, sqlite_keeping
from steelyard.adapters.sql.tables import Int

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

APPEND_ONLY: dict[str, Keys] = {"shadow_setting": (("seq",),), "version_drain": (("seq",),)}


def upgrade() -> None:
    """Two tables that nobody may change."""
    op.create_table(
        "shadow_setting",
        sa.Column("seq", Int, autoincrement=False, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", Int, nullable=True),
        sa.Column("share_bp", Int, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("set_us", Int, nullable=False),
        sa.CheckConstraint("share_bp between 0 and 10000", name=op.f("ck_shadow_setting_share")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_shadow_setting")),
        sqlite_strict=True,
    )
    op.create_index("ix_shadow_setting_model", "shadow_setting", ["model", "seq"])
    op.create_table(
        "version_drain",
        sa.Column("seq", Int, autoincrement=False, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", Int, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("drained_us", Int, nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_version_drain")),
        sqlite_strict=True,
    )
    op.create_index("ix_version_drain_model", "version_drain", ["model", "version", "seq"])
    sqlite = op.get_bind().dialect.name == "sqlite"
    keeping = sqlite_keeping(APPEND_ONLY) if sqlite else postgresql_keeping(APPEND_ONLY)
    for statement in keeping:
        op.execute(sa.text(statement))
