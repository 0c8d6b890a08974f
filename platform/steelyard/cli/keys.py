"""``steelyard keys create | list | revoke``: who may ask models, and how much."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape

from steelyard.cli.output import emit, note, stdout, table
from steelyard.cli.serving import actor
from steelyard.domain.api_key import KeyRecord
from steelyard.settings import load_settings

app = typer.Typer(help="API keys for inference.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is, or what for.")],
    model: Annotated[
        list[str] | None, typer.Option(metavar="M", help="May ask this one; repeat for more.")
    ] = None,
    expires_days: Annotated[
        int | None, typer.Option(metavar="N", help="Good for so many days; else for ever.")
    ] = None,
    requests_per_minute: Annotated[int, typer.Option(metavar="N", help="0: no limit.")] = 0,
    items_per_day: Annotated[
        int, typer.Option(metavar="N", help="Rows for each model and day, UTC; 0: no limit.")
    ] = 0,
    told: Annotated[
        str, typer.Option(metavar="all|label|top", help="What classifiers' answers are cut to.")
    ] = "all",
    top: Annotated[int, typer.Option(metavar="K", help="With --told top: how many scores.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once: it is kept as a digest alone."""
    from steelyard.bootstrap import Platform
    from steelyard.bootstrap.access import check_operator
    from steelyard.services.keys import KeyRequest

    platform = Platform(load_settings())
    check_operator(platform.settings)
    wanted = KeyRequest(name, tuple(model or ()), expires_days, requests_per_minute,
                        items_per_day, told, top)  # fmt: skip
    key, text = platform.keys.create(wanted, actor())
    document = {"key": text, **_shown(KeyRecord(key, actor()))}
    emit(document, as_json, lambda: stdout.print(text))
    note(f"This is key {key.key_id}. It cannot be shown again.")


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """Every key that there ever was, without its secret."""
    from steelyard.bootstrap import Platform

    platform = Platform(load_settings())
    now = platform.clock.now_us()
    records = platform.keys.records()
    rows = [_cells(record, now) for record in records]
    columns = ("key", "name", "state", "models", "Requests a minute", "Items a day", "told",
               "created", "why")  # fmt: skip
    emit({"keys": [_shown(r) for r in records]}, as_json,
         lambda: stdout.print(table("Keys", columns, rows)))  # fmt: skip


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="As `keys list` shows it.")],
    reason: Annotated[str, typer.Option(help="Why; kept on record.")],
    as_json: AsJson = False,
) -> None:
    """Take a key back for good; replicas refuse it within seconds."""
    from steelyard.bootstrap import Platform
    from steelyard.bootstrap.access import check_operator

    platform = Platform(load_settings())
    check_operator(platform.settings)
    record = platform.keys.revoke(key_id, actor(), reason)
    emit(_shown(record), as_json, lambda: stdout.print(
        f"Key {key_id} of {record.key.name} is revoked: {record.reason}", markup=False
    ))  # fmt: skip


def _shown(record: KeyRecord) -> dict[str, Any]:
    key = asdict(record.key)
    del key["secret_sha256"]
    return key | {"created_by": record.created_by, "revoked_by": record.revoked_by,
                  "reason": record.reason}  # fmt: skip


def _cells(record: KeyRecord, now_us: int) -> tuple[str | None, ...]:
    key = record.key
    told = f"top {key.top}" if key.told == "top" else key.told
    return (key.key_id, escape(key.name), _state(record, now_us), ", ".join(key.models) or "every",
            str(key.requests_per_minute or "no limit"), str(key.items_per_day or "no limit"), told,
            _day(key.created_us), escape(record.reason) if record.reason else None)  # fmt: skip


def _state(record: KeyRecord, now_us: int) -> str:
    if record.key.revoked_us is not None:
        return f"revoked {_day(record.key.revoked_us)}"
    if record.key.expires_us is None:
        return "live"
    return (
        f"{'live until' if record.key.is_live(now_us) else 'expired'} {_day(record.key.expires_us)}"
    )


def _day(at_us: int) -> str:
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).date().isoformat()
