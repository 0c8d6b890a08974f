"""Predictions say more, are chained by segment, and may be erased once their time is over."""

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from steelyard.adapters.sql.append_only import (
    Keys,
    postgresql_chaining,
    postgresql_erasing,
    postgresql_keeping,
    sqlite_chaining,
    sqlite_erasing,
    sqlite_keeping,
    sqlite_keys_anew,
)
from steelyard.adapters.sql.tables import Int
from steelyard.domain.audit_chain import FIELDS, Links, record_bytes
from steelyard.domain.hash_chain import GENESIS, link

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NEW: dict[str, Any] = {
    "latency_us": Int, "key_id": sa.Text(), "cached": Int, "batch": Int,
    "outputs_sha256": sa.Text(), "flags": sa.Text(), "inputs": sa.Text(), "outputs": sa.Text(),
    "shadows": sa.Text(), "trace_id": sa.Text(), "digest_method": sa.Text(), "segment": Int,
    "place": Int, "link": sa.Text(),
}  # fmt: skip
APPEND_ONLY: dict[str, Keys] = {
    "prediction_segment": (("seq",), ("boot_id", "number")),
    "prediction_aside": (("segment", "place"),),
    "prediction_erasure": (("seq",), ("segment",)),
}
CHAINED = ("prediction_segment", "prediction_erasure")
SEALED_BY_LEDGER = "ledger"
"""The boot of segments that the ledger seals itself, because no replica did."""
SEGMENT = 5_000


def upgrade() -> None:
    """New columns and tables; what is there is sealed in segments, then the triggers come."""
    for name, kind in NEW.items():
        op.add_column("prediction", sa.Column(name, kind, nullable=True))
    _segments()
    _asides()
    sqlite = op.get_bind().dialect.name == "sqlite"
    op.execute(sa.text(
        "drop trigger prediction_no_update" if sqlite
        else "alter table prediction disable trigger prediction_no_change"
    ))  # fmt: skip
    _seal(op.get_bind())
    if not sqlite:
        op.execute(sa.text("alter table prediction enable trigger prediction_no_change"))
    _indexes()
    for statement in _triggers(sqlite):
        op.execute(sa.text(statement))


def _triggers(sqlite: bool) -> Iterator[str]:
    if sqlite:
        yield (
            "create trigger prediction_no_update before update on prediction "
            "begin select raise(abort, 'prediction is append-only'); end"
        )
        yield from sqlite_keys_anew("prediction", (("prediction_id",), ("segment", "place")))
        yield from sqlite_keeping(APPEND_ONLY)
        yield from sqlite_chaining(CHAINED)
        yield from sqlite_erasing()
        return
    yield from postgresql_keeping(APPEND_ONLY)
    yield from postgresql_chaining(CHAINED)
    yield from postgresql_erasing()


def _segments() -> None:
    op.create_table(
        "prediction_segment",
        sa.Column("seq", Int, autoincrement=False, nullable=False),
        sa.Column("v", Int, nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("number", Int, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("records", Int, nullable=False),
        sa.Column("first_us", Int, nullable=False),
        sa.Column("last_us", Int, nullable=False),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("recorded_us", Int, nullable=False),
        sa.Column("prev_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.CheckConstraint("records > 0", name=op.f("ck_prediction_segment_some")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_prediction_segment")),
        sa.UniqueConstraint("boot_id", "number", name=op.f("uq_prediction_segment_boot_id_number")),
        sqlite_strict=True,
    )
    op.create_index("ix_prediction_segment_model_last", "prediction_segment", ["model", "last_us"])
    op.create_table(
        "audit_head",
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("seq", Int, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("chain", name=op.f("pk_audit_head")),
        sqlite_strict=True,
    )


def _asides() -> None:
    op.create_table(
        "prediction_aside",
        sa.Column("segment", Int, nullable=False),
        sa.Column("place", Int, nullable=False),
        sa.Column("prediction_id", sa.Text(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("link", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("segment", "place", name=op.f("pk_prediction_aside")),
        sqlite_strict=True,
    )
    op.create_index("ix_prediction_aside_prediction_id", "prediction_aside", ["prediction_id"])
    op.create_table(
        "prediction_erasure",
        sa.Column("seq", Int, autoincrement=False, nullable=False),
        sa.Column("segment", Int, nullable=False),
        sa.Column("records", Int, nullable=False),
        sa.Column("retention_days", Int, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("erased_us", Int, nullable=False),
        sa.Column("prev_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.CheckConstraint("retention_days > 0", name=op.f("ck_prediction_erasure_lawful")),
        sa.ForeignKeyConstraint(
            ["segment"], ["prediction_segment.seq"], name=op.f("fk_prediction_erasure_segment")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_prediction_erasure")),
        sa.UniqueConstraint("segment", name=op.f("uq_prediction_erasure_segment")),
        sqlite_strict=True,
    )


def _indexes() -> None:
    op.create_index("uq_prediction_segment_place", "prediction", ["segment", "place"], unique=True)
    some = sa.text("shadows is not null")
    op.create_index(
        "ix_prediction_shadows", "prediction", ["shadows"], sqlite_where=some, postgresql_where=some
    )


def _seal(connection: sa.Connection) -> None:
    """Put the predictions that are there into segments of one model each, oldest first."""
    seq, hashed, digest = 0, GENESIS, GENESIS
    models = connection.execute(sa.text("select distinct model from prediction order by model"))
    for model in models.scalars().all():
        while rows := _unsealed(connection, model):
            seq += 1
            links = Links(SEALED_BY_LEDGER, seq, digest)
            for place, row in enumerate(rows, start=1):
                connection.execute(
                    sa.text("update prediction set segment = :segment, place = :place, "
                            "link = :link where prediction_id = :prediction_id"),
                    {"segment": seq, "place": place, "link": links.add(record_bytes(row)),
                     "prediction_id": row["prediction_id"]},
                )  # fmt: skip
            times = [row["received_us"] for row in rows]
            segment = {
                "seq": seq, "v": 1, "boot_id": SEALED_BY_LEDGER, "number": seq, "model": model,
                "records": len(rows), "first_us": min(times), "last_us": max(times),
                "previous": digest, "digest": links.digest(), "recorded_us": max(times),
            }  # fmt: skip
            digest = links.digest()
            row = {**segment, "prev_hash": hashed, "hash": link(hashed, segment)}
            hashed = row["hash"]
            names = ", ".join(row)
            marks = ", ".join(f":{name}" for name in row)
            connection.execute(
                sa.text(f"insert into prediction_segment ({names}) values ({marks})"), row
            )
    if seq:
        connection.execute(
            sa.text("insert into audit_head values ('prediction_segment', :seq, :hash)"),
            {"seq": seq, "hash": hashed},
        )


def _unsealed(connection: sa.Connection, model: str) -> list[dict[str, Any]]:
    query = (
        f"select {', '.join(FIELDS)} from prediction where model = :model and segment is null "
        f"order by received_us, prediction_id limit {SEGMENT}"
    )
    rows = connection.execute(sa.text(query), {"model": model}).mappings()
    return [
        {**row, "classes": None if row["classes"] is None else json.loads(row["classes"])}
        for row in rows
    ]
