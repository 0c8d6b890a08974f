"""Triggers that keep facts: no UPDATE, no DELETE, no gap in a chain, on both dialects.

SQLite's ``INSERT OR REPLACE`` deletes without firing DELETE triggers unless
``recursive_triggers`` is on, and a foreign connection may not set it; a BEFORE INSERT trigger
therefore ignores a row whose primary or unique key exists.

Migrations run these statements: what a landed one creates is changed by a new one, not here.
"""

from collections.abc import Iterable, Iterator, Mapping

Keys = tuple[tuple[str, ...], ...]
"""The columns of a table's primary key and of its unique constraints."""
CHAINED = ("entry", "rollout_event", "promotion")


def sqlite_keeping(tables: Mapping[str, Keys]) -> Iterator[str]:
    """The statements that make tables append-only on SQLite."""
    for table, keys in tables.items():
        for verb in ("update", "delete"):
            yield (
                f"create trigger {table}_no_{verb} before {verb} on {table} "
                f"begin select raise(abort, '{table} is append-only'); end"
            )
        yield _no_replace(table, keys)


def sqlite_ledger(period_keys: Keys) -> Iterator[str]:
    """The statements that keep chains, periods and entries sound on SQLite."""
    yield from sqlite_chaining(CHAINED)
    yield _no_replace("period", period_keys)
    yield (
        f"create trigger period_closes_once before update on period when {_PERIOD_UNSOUND} "
        "begin select raise(abort, 'a closed period never changes'); end"
    )
    yield (
        "create trigger period_stays before delete on period "
        "begin select raise(abort, 'a period never goes'); end"
    )
    yield (
        "create trigger entry_sound before insert on entry when "
        f"{_ENTRY_UNSOUND} begin select raise(abort, 'entry is not sound'); end"
    )


def sqlite_chaining(tables: Iterable[str]) -> Iterator[str]:
    """The statements that let a row into chained tables only where it follows, on SQLite."""
    for table in tables:
        yield (
            f"create trigger {table}_chain before insert on {table} when "
            f"not exists (select 1 from {table} where seq = new.seq) and ("
            f"new.seq <> (select coalesce(max(seq), 0) + 1 from {table}) or "
            f"new.prev_hash <> coalesce((select hash from {table} where seq = new.seq - 1), "
            f"'{'0' * 64}')) begin select raise(abort, '{table} breaks its chain'); end"
        )


def postgresql_keeping(tables: Mapping[str, Keys]) -> Iterator[str]:
    """The statements that make tables append-only on PostgreSQL, by ``steelyard_refuse``."""
    for table in tables:
        yield (
            f"create trigger {table}_no_change before update or delete on {table} "
            "for each row execute function steelyard_refuse()"
        )
        yield (
            f"create trigger {table}_no_truncate before truncate on {table} "
            "for each statement execute function steelyard_refuse()"
        )


def postgresql_ledger() -> Iterator[str]:
    """The statements that keep chains, periods and entries sound on PostgreSQL."""
    yield from postgresql_chaining(CHAINED)
    yield (
        "create function period_closes_once() returns trigger language plpgsql as $$ begin "
        f"if {_PERIOD_UNSOUND} then raise exception 'a closed period never changes' "
        "using errcode = '23000'; end if; return new; end $$"
    )
    yield (
        "create trigger period_closes_once before update on period "
        "for each row execute function period_closes_once()"
    )
    yield (
        "create trigger period_stays before delete on period "
        "for each row execute function steelyard_refuse()"
    )
    yield (
        "create function entry_sound() returns trigger language plpgsql as $$ begin "
        f"if {_ENTRY_UNSOUND} then raise exception 'entry is not sound' "
        "using errcode = '23000'; end if; return new; end $$"
    )
    yield (
        "create trigger entry_sound before insert on entry "
        "for each row execute function entry_sound()"
    )


def postgresql_chaining(tables: Iterable[str]) -> Iterator[str]:
    """The same on PostgreSQL."""
    for table in tables:
        yield (
            f"create function {table}_chain() returns trigger language plpgsql as $$ begin "
            f"if new.seq <> (select coalesce(max(seq), 0) + 1 from {table}) or new.prev_hash "
            f"<> coalesce((select hash from {table} where seq = new.seq - 1), '{'0' * 64}') "
            f"then raise exception '{table} breaks its chain' using errcode = '23000'; "
            "end if; return new; end $$"
        )
        yield (
            f"create trigger {table}_chain before insert on {table} "
            f"for each row execute function {table}_chain()"
        )


_ENTRY_UNSOUND = (
    "(select count(*) from account where account_id in (new.debit_account, new.credit_account) "
    "and unit = new.unit) <> 2 "
    "or not exists (select 1 from period p, batch b where p.period_id = new.period_id "
    "and b.batch_id = new.batch_id and p.status <> 'closed' and new.period_end_us <= p.end_us "
    "and (new.period_start_us >= p.start_us or b.kind = 'correction')) "
    "or (new.reverses_seq is not null and not exists (select 1 from entry o where "
    "o.seq = new.reverses_seq and o.reverses_seq is null and o.amount = new.amount and "
    "o.unit = new.unit and o.debit_account = new.credit_account and "
    "o.credit_account = new.debit_account))"
)

_PERIOD_UNSOUND = (
    "old.status = 'closed' or (old.status = 'closing' and new.status = 'open') or "
    "new.period_id <> old.period_id or new.start_us <> old.start_us or new.end_us <> old.end_us"
)


ERASED = {
    "prediction": "exists (select 1 from prediction_erasure e where e.segment = old.segment)",
    "prediction_aside": "exists (select 1 from prediction_erasure e where e.segment = old.segment)",
    "label": (
        "exists (select 1 from prediction p join prediction_erasure e on e.segment = p.segment "
        "where p.prediction_id = old.prediction_id)"
    ),
}
"""When a fact may be deleted after all: its segment is marked as erased, in a chain of its own."""


def sqlite_erasing() -> Iterator[str]:
    """The statements that let only what is marked as erased be deleted, on SQLite."""
    for table, erased in ERASED.items():
        yield f"drop trigger {table}_no_delete"
        yield (
            f"create trigger {table}_no_delete before delete on {table} when not {erased} "
            f"begin select raise(abort, '{table} is append-only'); end"
        )


def postgresql_erasing() -> Iterator[str]:
    """The same on PostgreSQL."""
    for table, erased in ERASED.items():
        yield (
            f"create function {table}_keep() returns trigger language plpgsql as $$ begin "
            f"if tg_op = 'DELETE' then if {erased} then return old; end if; end if; "
            f"raise exception '{table} is append-only' using errcode = '23000'; end $$"
        )
        yield f"drop trigger {table}_no_change on {table}"
        yield (
            f"create trigger {table}_no_change before update or delete on {table} "
            f"for each row execute function {table}_keep()"
        )


def sqlite_keys_anew(table: str, keys: Keys) -> Iterator[str]:
    """The statements that keep rows from being replaced by other keys than before, on SQLite."""
    yield f"drop trigger {table}_no_replace"
    yield _no_replace(table, keys)


REFUSE = (
    "create function steelyard_refuse() returns trigger language plpgsql as $$ begin "
    "raise exception '% is append-only', tg_table_name using errcode = '23000'; end $$"
)
"""The function that PostgreSQL's triggers call."""


def _no_replace(table: str, keys: Keys) -> str:
    same = " or ".join("(" + " and ".join(f"{k} = new.{k}" for k in key) + ")" for key in keys)
    return (
        f"create trigger {table}_no_replace before insert on {table} "
        f"when exists (select 1 from {table} where {same}) begin select raise(ignore); end"
    )
