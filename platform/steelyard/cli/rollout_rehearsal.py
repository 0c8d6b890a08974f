"""``steelyard rollout plan``: what a plan would take, or would have said, before anything moves."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from steelyard.bootstrap import Platform
from steelyard.cli.output import emit, stdout, table
from steelyard.cli.rollout_insight import AsJson, PlanFile, rollout_of
from steelyard.cli.rollout_plan_file import read_plan
from steelyard.domain import figures
from steelyard.domain.measures import Measures
from steelyard.domain.model_version import parse_model
from steelyard.domain.presets import PRESETS, PresetName
from steelyard.domain.rehearsal import Chances, Rehearsal
from steelyard.domain.replay import Replay
from steelyard.domain.rollout import SECOND_US, Rollout
from steelyard.domain.rollout_plan import Plan
from steelyard.domain.rollout_spend import Spend
from steelyard.services.rehearsals import Rehearsed
from steelyard.settings import load_settings

NOBODY_ASKED = "unknown: there was no request in the last hour"


def add_commands(app: typer.Typer) -> None:
    """Add the command to ``steelyard rollout``."""
    app.command("plan")(plan)


def plan(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    preset: Annotated[PresetName, typer.Option(help="The plan to rehearse.")] = "standard",
    file: PlanFile = None,
    worse: Annotated[
        float, typer.Option(min=1.05, max=50, help="How bad a canary to imagine, × stable.")
    ] = 3.0,
    replay: Annotated[
        str | None,
        typer.Option(metavar="ROLLOUT_ID", help="Decide that rollout again with this plan."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rehearse a plan at today's traffic: times, requests, chances, cost. Nothing moves."""
    chosen = PRESETS[preset] if file is None else read_plan(file)
    platform, name = Platform(load_settings()), parse_model(model)
    if replay is not None:
        former = rollout_of(platform, name, replay)
        again = platform.explanations.replay(former, chosen)
        document = {"plan": asdict(chosen), "rollout_id": former.rollout_id, **asdict(again)}
        emit(document, as_json, lambda: _show_replay(former, again))
        return
    found = platform.rehearsals.rehearse(name, chosen, worse)
    emit({"plan": asdict(chosen), **asdict(found), "estimated": True}, as_json,
         lambda: _show(chosen, found))  # fmt: skip


def _show(chosen: Plan, rehearsed: Rehearsed) -> None:
    cells = [
        (step.said, _time(step.bake_s), step.min_requests, "yes" if step.approval else "no")
        for step in chosen.steps
    ]
    stdout.print(table("Steps", ("Weight", "bakes", "Requests", "approval"), cells))
    for name, value in _lines(rehearsed):
        stdout.print(f"{name:<18} {value}", markup=False)
    _show_spend(rehearsed.spend)
    stdout.print("All of it is estimated from the last hour.")


def _lines(rehearsed: Rehearsed) -> list[tuple[str, str]]:
    traffic, found = rehearsed.traffic, rehearsed.found
    asked = f"{traffic.requests_per_s:.3g} requests/s, {100 * traffic.error_share:.3g} % fail"
    guard = ("guard", f"a canary that only fails is taken back in {_time(found.guard_s)} at worst")
    if found.promote_s is None:
        return [("traffic now", NOBODY_ASKED), guard]
    return [
        ("traffic now", asked),
        ("to all traffic", f"{_time(found.promote_s)} at least, {_expected(found)}"),
        ("by then", f"{found.canary_requests} requests answered by the candidate, "
                    f"{found.copies} repeated unseen"),
        (f"{found.worse:g} × the errors", _found_out(found)),
        guard,
        ("if it is equal", _chances(found.if_equal)),
        (f"if {found.worse:g} × as bad", _chances(found.if_worse)),
    ]  # fmt: skip


def _time(seconds: float) -> str:
    return figures.duration(round(seconds * SECOND_US))


def _expected(found: Rehearsal) -> str:
    if found.expected_s is None:
        return "and nothing that was seen lately could prove an equal version good"
    return f"{_time(found.expected_s)} until an equal version is proven"


def _found_out(found: Rehearsal) -> str:
    if found.rollback_requests is None or found.rollback_s is None:
        return "unknown: stable had no error that it could be compared with"
    return (
        f"found out at the first step after about {found.rollback_requests} requests; all traffic "
        f"is stable's again after {_time(found.rollback_s)} at worst"
    )


def _chances(chances: Chances | None) -> str:
    if chances is None:
        return "unknown: there are no errors that it could be estimated from"
    parts = (("rolled back", chances.rollback), ("promoted", chances.promote),
             ("held", chances.hold))  # fmt: skip
    return ", ".join(f"{name} {100 * share:.1f} %" for name, share in parts)


def _show_spend(spend: Spend) -> None:
    rows = [
        ("candidate, at least", spend.canary_least),
        ("candidate, expected", spend.canary_expected),
        ("of it repeated unseen", spend.copies),
        ("old version, kept warm", spend.warm),
    ]
    columns = ("estimated", "Device time", "Cost", "Energy", "CO2e", "CO2e embodied")
    stdout.print(table("What it takes beside stable", columns, [_spent(*row) for row in rows]))
    each = f"{spend.candidates} candidates, each of " if spend.candidates > 1 else ""
    stdout.print(f"{each}{spend.replicas} replica(s); {spend.basis}.", markup=False)


def _spent(name: str, found: Measures | None) -> tuple[str, ...]:
    one = found or Measures()
    return (name, figures.duration(one.device_us), figures.money(one.cost_nano),
            figures.energy(one.energy_mj), figures.carbon(one.carbon_ug),
            figures.carbon(one.embodied_ug))  # fmt: skip


def _show_replay(former: Rollout, found: Replay) -> None:
    ended = "" if former.ended_us is None else f" at {_moment(former.ended_us)}"
    stdout.print(f"{former.model}/{former.candidate}, rollout {former.rollout_id}: "
                 f"{former.condition}{ended}: {former.reason}", markup=False)  # fmt: skip
    for turn in found.turns:
        stdout.print(f"{_moment(turn.at_us)}  {turn.summary}", markup=False)
    for metric in found.unknown:
        stdout.print(f"{metric}: nothing was kept of it", markup=False)
    when = "" if found.at_us is None else f" at {_moment(found.at_us)}"
    stdout.print(f"With this plan: {found.outcome}{when}.", markup=False)
    stdout.print("Its metrics on the traffic that there was: no guard, no times of steps.")


def _moment(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / SECOND_US, UTC).isoformat(timespec="seconds")
