"""Aliases and who moved them elsewhere, deletions, what was served, and rollouts by policy."""

import sqlalchemy as sa
from alembic import op

from steelyard.adapters.sql.append_only import (
    Keys,
    postgresql_chaining,
    postgresql_keeping,
    sqlite_chaining,
    sqlite_keeping,
)
from steelyard.adapters.sql.tables import Int

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

CHAINED = ("alias_drift", "version_deletion")
APPEND_ONLY: dict[str, Keys] = {
    "alias_drift": (("seq",),), "version_deletion": (("seq",),),
    "served_version": (("model", "version"),), "auto_rollout": (("seq",),),
}  # fmt: skip


def upgrade() -> None:
    """Five tables, of which nobody may change four."""
    op.create_table(
        "alias_mirror",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("seen", Int, nullable=True),
        sa.Column("intended", Int, nullable=True),
        sa.PrimaryKeyConstraint("model", "alias", name=op.f("pk_alias_mirror")),
        sqlite_strict=True,
    )
    _drift()
    _deletion()
    op.create_table(
        "served_version",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", Int, nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("created_us", Int, nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("recorded_us", Int, nullable=False),
        sa.PrimaryKeyConstraint("model", "version", name=op.f("pk_served_version")),
        sqlite_strict=True,
    )
    op.create_table(
        "auto_rollout",
        sa.Column("seq", Int, autoincrement=False, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=True),
        sa.Column("plan_name", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("set_us", Int, nullable=False),
        sa.Column("since_us", Int, nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_auto_rollout")),
        sqlite_strict=True,
    )
    op.create_index("ix_auto_rollout_model", "auto_rollout", ["model", "seq"])
    sqlite = op.get_bind().dialect.name == "sqlite"
    keeping = sqlite_keeping(APPEND_ONLY) if sqlite else postgresql_keeping(APPEND_ONLY)
    chaining = sqlite_chaining(CHAINED) if sqlite else postgresql_chaining(CHAINED)
    for statement in (*keeping, *chaining):
        op.execute(sa.text(statement))


def _drift() -> None:
    op.create_table(
        "alias_drift",
        sa.Column("seq", Int, autoincrement=False, nullable=False),
        sa.Column("at_us", Int, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("expected", Int, nullable=True),
        sa.Column("found", Int, nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("prev_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "verb in ('found', 'adopted', 'restored', 'settled')",
            name=op.f("ck_alias_drift_verb"),
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_alias_drift")),
        sqlite_strict=True,
    )
    op.create_index("ix_alias_drift_model", "alias_drift", ["model", "alias", "seq"])


def _deletion() -> None:
    op.create_table(
        "version_deletion",
        sa.Column("seq", Int, autoincrement=False, nullable=False),
        sa.Column("at_us", Int, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", Int, nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("prev_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_version_deletion")),
        sqlite_strict=True,
    )
    op.create_index("ix_version_deletion_model", "version_deletion", ["model", "version"])
