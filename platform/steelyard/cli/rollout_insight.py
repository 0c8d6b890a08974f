"""``steelyard rollout plan | explain``: before anything moves, and after it did."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from steelyard.bootstrap import Platform
from steelyard.cli.output import emit, stdout, table
from steelyard.cli.rollout_plan_file import read_plan
from steelyard.domain import figures
from steelyard.domain.errors import Fault, InvalidInput, NotFound
from steelyard.domain.model_version import parse_ref
from steelyard.domain.presets import PRESETS, PresetName
from steelyard.domain.rehearsal import Chances
from steelyard.domain.rollout import SECOND_US, Rollout
from steelyard.domain.rollout_plan import Plan
from steelyard.services.explanations import Decision
from steelyard.services.rehearsals import Rehearsed
from steelyard.settings import load_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
PlanFile = Annotated[
    Path | None, typer.Option("--plan", metavar="FILE.yaml", help="A plan of your own.")
]


def add_commands(app: typer.Typer) -> None:
    """Add the two commands to ``steelyard rollout``."""
    app.command("plan")(plan)
    app.command("explain")(explain)


def plan(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    preset: Annotated[PresetName, typer.Option(help="The plan to rehearse.")] = "standard",
    file: PlanFile = None,
    worse: Annotated[
        float, typer.Option(min=1.05, max=50, help="How bad a canary to imagine, × stable.")
    ] = 3.0,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Rehearse a plan at today's traffic: times, requests, chances. Nothing moves."""
    chosen = PRESETS[preset] if file is None else read_plan(file)
    platform = Platform(load_settings())
    found = platform.rehearsals.rehearse(parse_ref(model).model, chosen, worse)
    document = {"plan": asdict(chosen), **asdict(found), "estimated": True}
    emit(document, as_json, lambda: _show(chosen, found))


def _show(chosen: Plan, rehearsed: Rehearsed) -> None:
    traffic, found = rehearsed.traffic, rehearsed.found
    cells = [
        (f"{step.weight_bp / 100:g} %", _time(step.bake_s), step.min_requests,
         "yes" if step.approval else "no")
        for step in chosen.steps
    ]  # fmt: skip
    stdout.print(table("Steps", ("Weight", "bakes", "Requests", "approval"), cells))
    if found.promote_s is None:
        stdout.print("No request in the last hour: nothing can be estimated.")
        return
    lines = [
        ("traffic now", f"{traffic.requests_per_s:.3g} requests/s, "
                        f"{100 * traffic.error_share:.3g} % fail"),
        ("to all traffic", f"{_time(found.promote_s)} at least"),
        ("by then", f"{found.canary_requests} requests answered by the candidate"),
        (f"{found.worse:g} × the errors", _found_out(found.rollback_requests, found.rollback_s)),
        ("if it is equal", _chances(found.if_equal)),
        (f"if {found.worse:g} × as bad", _chances(found.if_worse)),
    ]  # fmt: skip
    for name, value in lines:
        stdout.print(f"{name:<18} {value}", markup=False)
    stdout.print("All of it is estimated from the last hour.")


def _time(seconds: float) -> str:
    return figures.duration(round(seconds * SECOND_US))


def _found_out(requests: int | None, seconds: float | None) -> str:
    if requests is None or seconds is None:
        return "unknown: stable had no error that it could be compared with"
    return f"found out at the first step after about {requests} requests, {_time(seconds)}"


def _chances(chances: Chances | None) -> str:
    if chances is None:
        return "unknown: there are no errors that it could be estimated from"
    parts = (("rolled back", chances.rollback), ("promoted", chances.promote),
             ("held", chances.hold))  # fmt: skip
    return ", ".join(f"{name} {100 * share:.1f} %" for name, share in parts)


def explain(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    rollout: Annotated[
        str | None, typer.Option(help="Which rollout; the newest unless told.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Until a moment: 2026-11-21T10:00:00Z.")
    ] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show which evidence led to which decision, and decide again on it."""
    platform = Platform(load_settings())
    name = parse_ref(model).model
    chosen = _rollout(platform, name, rollout)
    decisions = platform.explanations.of(chosen, None if at is None else moment(at))
    document = {
        "rollout_id": chosen.rollout_id,
        "decisions": [_document(one) for one in decisions],
        "all_hold": all(one.holds is not False for one in decisions),
    }
    emit(document, as_json, lambda: _explain(chosen, decisions))


def _rollout(platform: Platform, model: str, rollout_id: str | None) -> Rollout:
    found = [s.rollout for s in platform.rollout_store.rollouts(model)]
    chosen = [r for r in found if rollout_id in (None, r.rollout_id)]
    if not chosen:
        wanted = f"rollout {rollout_id} of {model}" if rollout_id else f"rollout of {model}"
        raise NotFound(f"There is no {wanted}.", f"See: steelyard rollout history {model}.")
    return chosen[0]


def moment(text: str) -> int:
    """Microseconds since 1970 of a time that somebody typed; without a zone it is UTC.

    Raises:
        InvalidInput: it is no time.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        fault = Fault("--at", f"{text!r} is no time")
        raise InvalidInput(str(fault), (fault,), "Write 2026-11-21T10:00:00Z.") from error
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def _document(decision: Decision) -> dict[str, Any]:
    event = {key: value for key, value in decision.event.items() if key != "evidence"}
    evidence = None if decision.evidence is None else asdict(decision.evidence)
    return {**event, "evidence": evidence, "holds": decision.holds}


def _explain(rollout: Rollout, decisions: list[Decision]) -> None:
    stdout.print(f"{rollout.model}/{rollout.candidate}, rollout {rollout.rollout_id}", markup=False)
    for one in decisions:
        event = one.event
        when = datetime.fromtimestamp(event["at_us"] / 1e6, UTC).isoformat(timespec="seconds")
        stdout.print(
            f"{when}  {event['actor']}, {event['verb']}: {event['to_condition']}, "
            f"{event['weight_bp'] / 100:g} %: {event['reason']}", markup=False,
        )  # fmt: skip
        if one.evidence is None:
            continue
        stdout.print(f"    version {one.evidence.readiness}, {one.evidence.step_requests} canary "
                     f"requests in this step", markup=False)  # fmt: skip
        for verdict in one.evidence.verdicts:
            stdout.print(
                f"    {verdict.summary}; worse {verdict.ln_e_worse:.2f} of "
                f"{verdict.ln_worse_at:.2f}, good {verdict.ln_e_good:.2f} of "
                f"{verdict.ln_good_at:.2f}", markup=False,
            )  # fmt: skip
        again = "the same" if one.holds else "ANOTHER decision"
        stdout.print(f"    decided again on this evidence: {again}", markup=False)
