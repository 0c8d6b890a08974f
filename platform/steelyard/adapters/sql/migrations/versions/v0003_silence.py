"""What was inferred can be taken back, and so can a budget."""

import sqlalchemy as sa
from alembic import op

from steelyard.adapters.sql.append_only import Keys, postgresql_keeping, sqlite_keeping
from steelyard.adapters.sql.tables import Int

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

APPEND_ONLY: dict[str, Keys] = {
    "inferred_window": (("idem_key",),),
    "superseded_window": (("idem_key",),),
}
FILL = (
    "insert into inferred_window select idem_key, resource_id, window_start_us, window_end_us "
    "from supply_window where producer_id = 'collector'",
    # Until now an inferred window counted as a sign of life.
    "update resource_seen set last_us = coalesce((select max(s.window_end_us) "
    "from supply_window s where s.resource_id = resource_seen.resource_id "
    "and s.producer_id <> 'collector'), (select r.started_us from resource r "
    "where r.resource_id = resource_seen.resource_id)) "
    "where resource_id in (select resource_id from inferred_window)",
    "insert into superseded_window select i.idem_key, min(s.received_us) from inferred_window i "
    "join supply_window s on s.resource_id = i.resource_id and s.producer_id <> 'collector' "
    "and s.window_end_us > i.window_start_us group by i.idem_key",
    "delete from waiting_window where idem_key in (select idem_key from superseded_window)",
)
"""What earlier versions inferred, found again."""


def upgrade() -> None:
    """Two tables of inferred windows, filled from what there is; the kind of a budget's row."""
    op.create_table(
        "inferred_window",
        sa.Column("idem_key", sa.Text(), nullable=False),
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("window_start_us", Int, nullable=False),
        sa.Column("window_end_us", Int, nullable=False),
        sa.ForeignKeyConstraint(
            ["idem_key"], ["supply_window.idem_key"], name=op.f("fk_inferred_window_idem_key")
        ),
        sa.PrimaryKeyConstraint("idem_key", name=op.f("pk_inferred_window")),
        sqlite_strict=True,
    )
    op.create_index("ix_inferred_window_resource_id", "inferred_window", ["resource_id"])
    op.create_table(
        "superseded_window",
        sa.Column("idem_key", sa.Text(), nullable=False),
        sa.Column("recorded_us", Int, nullable=False),
        sa.ForeignKeyConstraint(
            ["idem_key"], ["inferred_window.idem_key"], name=op.f("fk_superseded_window_idem_key")
        ),
        sa.PrimaryKeyConstraint("idem_key", name=op.f("pk_superseded_window")),
        sqlite_strict=True,
    )
    sqlite = op.get_bind().dialect.name == "sqlite"
    keeping = sqlite_keeping(APPEND_ONLY) if sqlite else postgresql_keeping(APPEND_ONLY)
    for statement in (*FILL, *keeping):
        op.execute(sa.text(statement))
    op.execute(sa.text(
        "alter table budget add column kind text not null default 'limit' "
        "constraint ck_budget_kind check (kind in ('limit', 'withdrawal'))"
    ))  # fmt: skip
