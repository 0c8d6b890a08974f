"""What was measured of versions, and what is asked of them before they take traffic."""

import sqlalchemy as sa
from alembic import op

from steelyard.adapters.sql.append_only import Keys, postgresql_keeping, sqlite_keeping
from steelyard.adapters.sql.tables import Int

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

APPEND_ONLY: dict[str, Keys] = {
    "evidence": (("record_id",),),
    "gate_policy": (("policy_id",),),
}


def upgrade() -> None:
    """Two tables that nobody may change. Versions that are there are copied in when next seen."""
    op.create_table(
        "evidence",
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", Int, nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("artifact_sha256", sa.Text(), nullable=True),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("recorded_us", Int, nullable=False),
        sa.CheckConstraint("origin in ('registered', 'measured')", name=op.f("ck_evidence_origin")),
        sa.PrimaryKeyConstraint("record_id", name=op.f("pk_evidence")),
        sqlite_strict=True,
    )
    op.create_index("ix_evidence_model_version", "evidence", ["model", "version"])
    op.create_table(
        "gate_policy",
        sa.Column("policy_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("recorded_us", Int, nullable=False),
        sa.PrimaryKeyConstraint("policy_id", name=op.f("pk_gate_policy")),
        sqlite_strict=True,
    )
    op.create_index("ix_gate_policy_model", "gate_policy", ["model"])
    sqlite = op.get_bind().dialect.name == "sqlite"
    keeping = sqlite_keeping(APPEND_ONLY) if sqlite else postgresql_keeping(APPEND_ONLY)
    for statement in keeping:
        op.execute(sa.text(statement))
