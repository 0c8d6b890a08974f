"""``steelyard rollout explain``: which evidence led to which decision."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from steelyard.bootstrap import Platform
from steelyard.cli.output import emit, stdout
from steelyard.domain.errors import Fault, InvalidInput, NotFound
from steelyard.domain.model_version import parse_model
from steelyard.domain.rollout import Rollout
from steelyard.services.explanations import Decision
from steelyard.settings import load_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
PlanFile = Annotated[
    Path | None, typer.Option("--plan", metavar="FILE.yaml", help="A plan of your own.")
]


def add_commands(app: typer.Typer) -> None:
    """Add the command to ``steelyard rollout``."""
    app.command("explain")(explain)


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
    name = parse_model(model)
    chosen = rollout_of(platform, name, rollout)
    decisions = platform.explanations.of(chosen, None if at is None else moment(at))
    earlier = [one.rollout_id for one in platform.rollout_store.earlier_attempts(chosen)]
    document = {
        "rollout_id": chosen.rollout_id,
        "earlier_attempts": earlier,
        "decisions": [_document(one) for one in decisions],
        "all_hold": all(one.holds is not False for one in decisions),
    }
    emit(document, as_json, lambda: _explain(chosen, earlier, decisions))


def rollout_of(platform: Platform, model: str, rollout_id: str | None) -> Rollout:
    """A model's rollout by its id, or its newest.

    Raises:
        NotFound: it has none, or none of this id.
    """
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


def _explain(rollout: Rollout, earlier: list[str], decisions: list[Decision]) -> None:
    stdout.print(f"{rollout.model}/{rollout.candidate}, rollout {rollout.rollout_id}", markup=False)
    if earlier:
        stdout.print(f"attempt {len(earlier) + 1}; what these found may prove it good, and counts "
                     f"no more against it: {', '.join(earlier)}", markup=False)  # fmt: skip
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
