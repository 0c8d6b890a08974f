"""How models answer, and who may ask them."""

import sqlalchemy as sa
from alembic import op

from steelyard.adapters.sql.append_only import Keys, postgresql_keeping, sqlite_keeping
from steelyard.adapters.sql.tables import Int

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

APPEND_ONLY: dict[str, Keys] = {
    "serving_policy": (("seq",),),
    "api_key": (("key_id",),),
    "api_key_revocation": (("key_id",),),
}


def upgrade() -> None:
    """Three tables that nobody may change."""
    _policies()
    _keys()
    sqlite = op.get_bind().dialect.name == "sqlite"
    keeping = sqlite_keeping(APPEND_ONLY) if sqlite else postgresql_keeping(APPEND_ONLY)
    for statement in keeping:
        op.execute(sa.text(statement))


def _policies() -> None:
    op.create_table(
        "serving_policy",
        sa.Column("seq", Int, autoincrement=False, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("set_us", Int, nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_serving_policy")),
        sqlite_strict=True,
    )
    op.create_index("ix_serving_policy_model", "serving_policy", ["model", "seq"])


def _keys() -> None:
    op.create_table(
        "api_key",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.Text(), nullable=False),
        sa.Column("models", sa.Text(), nullable=False),
        sa.Column("created_us", Int, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_us", Int, nullable=True),
        sa.Column("requests_per_minute", Int, nullable=False),
        sa.Column("items_per_day", Int, nullable=False),
        sa.Column("told", sa.Text(), nullable=False),
        sa.Column("top", Int, nullable=False),
        sa.CheckConstraint("told in ('all', 'label', 'top')", name=op.f("ck_api_key_told")),
        sa.CheckConstraint(
            "requests_per_minute >= 0 and items_per_day >= 0", name=op.f("ck_api_key_limits")
        ),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_api_key")),
        sqlite_strict=True,
    )
    op.create_table(
        "api_key_revocation",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("revoked_us", Int, nullable=False),
        sa.Column("revoked_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["key_id"], ["api_key.key_id"], name=op.f("fk_api_key_revocation_key_id")
        ),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_api_key_revocation")),
        sqlite_strict=True,
    )
