"""``steelyard rollout pause | resume | promote | approve | reject | abort | retry``."""

from typing import Annotated

import typer

from steelyard.bootstrap import Platform
from steelyard.bootstrap.access import check_operator
from steelyard.cli.rollout_insight import AsJson
from steelyard.cli.rollout_telling import tell
from steelyard.cli.serving import Override, actor, may_override
from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.model_version import parse_ref
from steelyard.domain.rollout_verbs import Verb
from steelyard.settings import load_settings

Model = Annotated[str, typer.Argument(metavar="MODEL")]
Version = Annotated[
    int | None,
    typer.Option("--version", min=1, help="Whose, where several versions are rolled out."),
]
Reason = Annotated[str, typer.Option(help="Why; kept in the history.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands to ``steelyard rollout``."""
    for command in (pause, resume, promote, approve, reject, abort, retry):
        app.command(command.__name__)(command)


def pause(model: Model, version: Version = None, as_json: AsJson = False) -> None:
    """Keep the weight where it is; the canary stays guarded."""
    _act(model, version, "pause", as_json)


def resume(model: Model, version: Version = None, as_json: AsJson = False) -> None:
    """Go on at the same step."""
    _act(model, version, "resume", as_json)


def promote(
    model: Model,
    version: Version = None,
    skip_step: Annotated[bool, typer.Option("--skip-step", help="To the next step now.")] = False,
    full: Annotated[bool, typer.Option("--full", help="To 100 % at once: for operators.")] = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Skip the rest of this step, which is what it does unless told otherwise, or of all of them.

    Readiness is never skipped, and neither is the protection against a bad canary. Of several
    candidates the one that takes all traffic ends the others.
    """
    if full and skip_step:
        fault = Fault("--full", "goes past every step, --skip-step past one")
        raise InvalidInput(str(fault), (fault,), "Give one of them.")
    verb: Verb = "promote_full" if full else "promote"
    _act(model, version, verb, as_json, reason, operator=full)


def approve(
    model: Model, version: Version = None, reason: Reason = "", as_json: AsJson = False
) -> None:  # fmt: skip
    """Let a rollout that waits for it take its next step: for operators."""
    _act(model, version, "approve", as_json, reason, operator=True)


def reject(
    model: Model, version: Version = None, reason: Reason = "", as_json: AsJson = False
) -> None:  # fmt: skip
    """Refuse the next step of a rollout that waits: all traffic goes back. For operators."""
    _act(model, version, "reject", as_json, reason, operator=True)


def abort(
    model: Model, version: Version = None, reason: Reason = "", as_json: AsJson = False
) -> None:  # fmt: skip
    """Give all traffic back to stable."""
    _act(model, version, "abort", as_json, reason)


def retry(
    model: Model, version: Version = None, override_gates: Override = None, as_json: AsJson = False
) -> None:  # fmt: skip
    """Start an aborted rollout once more: the same plan, and each unit where it was."""
    platform = Platform(load_settings())
    may_override(platform.settings, override_gates)
    name, version = _meant(model, version)
    tell([platform.rollouts.retry(name, actor(), override_gates, version)], as_json)


def _act(
    model: str, version: int | None, verb: Verb, as_json: bool, reason: str = "",
    operator: bool = False,
) -> None:  # fmt: skip
    platform = Platform(load_settings())
    if operator:
        check_operator(platform.settings)
    name, version = _meant(model, version)
    tell([platform.rollouts.act(name, verb, actor(), reason, version)], as_json)


def _meant(model: str, version: int | None) -> tuple[str, int | None]:
    """A model and whose rollout, which may also be written MODEL/VERSION."""
    ref = parse_ref(model)
    return ref.model, ref.version if version is None else version
