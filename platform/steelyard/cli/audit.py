"""``steelyard audit``: everything behind a prediction, the check of all, and their erasure."""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from steelyard.bootstrap import Platform
from steelyard.bootstrap.access import check_operator
from steelyard.cli.output import emit, note, stdout, table
from steelyard.cli.serving import actor
from steelyard.domain import figures
from steelyard.domain.audit_digest import KEY_FILE, is_digest_of
from steelyard.domain.errors import NotFound, Refused
from steelyard.services.audits import Trace
from steelyard.services.retention import MOST, Erased
from steelyard.settings import Settings, load_settings

app = typer.Typer(help="Answer for predictions.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.callback()
def audit() -> None:
    """Answer for predictions."""


@app.command("show")
def show(
    prediction_id: Annotated[str, typer.Argument(metavar="PREDICTION_ID")],
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a record on its way.")
    ] = 15,
    inputs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Say whether this is the body that was asked.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show which version answered, its parent and run, the rollout step, and the cost."""
    platform = Platform(load_settings())
    trace = _trace(platform, prediction_id, wait)
    emit(asdict(trace), as_json, lambda: _print(trace))
    if inputs is not None:
        _compare(trace.prediction, inputs, platform.settings)


def _compare(p: dict[str, Any], inputs: Path, settings: Settings) -> None:
    path = settings.secret_dir / KEY_FILE
    key = bytes.fromhex(path.read_text(encoding="ascii")) if path.exists() else None
    digest, method = p["inputs_sha256"], p["digest_method"]
    same = digest and is_digest_of(inputs.read_bytes(), digest, method, key)
    if same is None:
        raise Refused(f"There is no telling what was asked: {method or 'no digest'}.",
                      "A digest can only be compared with the key that made it.")  # fmt: skip
    if not same:
        raise Refused(f"{inputs} is not what {p['prediction_id']} was asked.",
                      "The bytes have to be those that were sent, before compression.")  # fmt: skip
    note(f"{inputs} is what {p['prediction_id']} was asked")


@app.command("verify")
def verify(
    prediction_id: Annotated[
        str | None,
        typer.Argument(metavar="PREDICTION_ID", help="Only the segment of this prediction."),
    ] = None,
    head: Annotated[
        str | None, typer.Option(metavar="SEGMENT:HASH", help="A head noted earlier.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute the chain of predictions from their rows; exit 1 and name what does not hold."""
    platform = Platform(load_settings())
    result = platform.audits.verify_predictions(prediction_id, head)
    document = {**asdict(result), "ok": not result.broken,
                "head": f"{result.head[0]}:{result.head[1]}" if result.head else None}  # fmt: skip
    holds = "all hold" if not result.broken else "BROKEN"
    emit(document, as_json, lambda: stdout.print(
        f"{result.predictions} predictions in {result.segments} segments: {holds}\n"
        f"{result.erased} segments were erased, as their policies say\n"
        f"head {document['head'] or 'none'}", markup=False,
    ))  # fmt: skip
    if result.broken:
        raise Refused("The predictions do not hold: " + "; ".join(result.broken) + ".",
                      "Compare with a backup of the database.")  # fmt: skip


@app.command("erase")
def erase(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be erased.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Erase predictions past their model's retention_days; the controller does so every hour."""
    settings = load_settings()
    if not dry_run:
        check_operator(settings)
    retention = Platform(settings).retention
    found = retention.due() if dry_run else retention.erase(actor())
    document: dict[str, Any] = {"erased": not dry_run, "models": [asdict(one) for one in found]}
    emit(document, as_json, lambda: stdout.print(_erased(found, dry_run)))
    if sum(one.segments for one in found) >= MOST:
        note(f"these are the oldest {MOST} segments; say it again for more")


def _erased(found: list[Erased], dry_run: bool) -> object:
    if not found:
        return "Nothing is past its retention."
    columns = ("Model", "kept for", "segments", "predictions", "from", "to")
    rows = [
        (one.model, f"{one.retention_days} days", one.segments, one.predictions,
         _moment(one.first_us), _moment(one.last_us))
        for one in found
    ]  # fmt: skip
    return table("Would be erased" if dry_run else "Erased", columns, rows)


def _moment(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%d %H:%M")


def _trace(platform: Platform, prediction_id: str, wait_s: float) -> Trace:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return platform.audits.trace(prediction_id)
        except NotFound:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.25)


def _print(trace: Trace) -> None:
    p, version, parent, rollout = trace.prediction, trace.version, trace.parent, trace.rollout
    lines = [
        ("prediction", p["prediction_id"]),
        ("answered by", f"{p['model']}/{p['version']} ({p['arm']}), status {p['status']}"),
        ("artefact", f"sha256 {p['sha256']}"),
        ("variant", version["variant"] if version else "unknown"),
        ("parent", f"{p['model']}/{parent['version']} ({parent['variant']})" if parent else "none"),
        ("run", version["run_id"] if version else "unknown"),
        ("rollout", _rollout_line(rollout)),
        ("bucket", f"{p['bucket']} of 10000, generation {p['generation']}"),
        ("asked by", f"key {p['key_id']}" if p["key_id"] else "no key"),
        ("classes", f"{p['classes']}, label {p['label_classes'] or 'not known'}"),
        ("inputs", _content(p["inputs_sha256"], p["inputs"], p["digest_method"])),
        ("outputs", _content(p["outputs_sha256"], p["outputs"], p["digest_method"])),
        ("odd", p["flags"] or "nothing"),
        ("took", _took(p)),
        ("trace", p["trace_id"] or "none"),
        ("cost", f"{figures.money(trace.cost_nano)} (busy time × price, without idle; estimated)"),
        ("ledger batch", trace.batch_id or "not posted yet"),
        ("segment", f"{p['segment']}, place {p['place']}, link {p['link']}"),
    ]
    if p["shadows"]:
        lines.insert(1, ("shadows", str(p["shadows"])))
    if p["repeats"]:
        lines.append(("repeated", f"{p['repeats']} more answers were made to this request"))
    for name, value in lines:
        stdout.print(f"{name:<13} {value}", markup=False)


def _content(digest: str | None, value: str | None, method: str | None) -> str:
    return value or (f"{method or 'sha256'} {digest}" if digest else "not known")


def _took(p: dict[str, Any]) -> str:
    if p["cached"]:
        how = ", from the cache"
    else:
        how = "" if p["batch"] is None else f", in inference {p['batch']} of {p['resource_id']}"
    whole = "" if p["latency_us"] is None else f" of {figures.duration(p['latency_us'])}"
    return f"{figures.duration(p['busy_ns'] // 1_000)} busy{whole}{how}"


def _rollout_line(rollout: dict[str, object] | None) -> str:
    if rollout is None:
        return "none: the request named its version"
    weight = int(str(rollout["weight_bp"])) / 100
    return f"{rollout['rollout_id']}, step {int(str(rollout['step'])) + 1}, canary at {weight:g} %"
