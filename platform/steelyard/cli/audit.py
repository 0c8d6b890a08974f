"""``steelyard audit``: everything behind one prediction."""

import time
from dataclasses import asdict
from typing import Annotated

import typer

from steelyard.bootstrap import Platform
from steelyard.cli.output import emit, stdout
from steelyard.domain import figures
from steelyard.domain.errors import NotFound
from steelyard.services.audits import Trace
from steelyard.settings import load_settings

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
    as_json: AsJson = False,
) -> None:
    """Show which version answered, its parent and run, the rollout step, and the cost."""
    platform = Platform(load_settings())
    trace = _trace(platform, prediction_id, wait)
    emit(asdict(trace), as_json, lambda: _print(trace))


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
        ("classes", f"{p['classes']}, label {p['label_classes'] or 'not known'}"),
        ("cost", f"{figures.money(trace.cost_nano)} (busy time × price, without idle; estimated)"),
        ("ledger batch", trace.batch_id or "not posted yet"),
    ]
    for name, value in lines:
        stdout.print(f"{name:<13} {value}", markup=False)


def _rollout_line(rollout: dict[str, object] | None) -> str:
    if rollout is None:
        return "none: the request named its version"
    weight = int(str(rollout["weight_bp"])) / 100
    return f"{rollout['rollout_id']}, step {int(str(rollout['step'])) + 1}, canary at {weight:g} %"
