"""``steelyard serve status | logs | scale | drain | shadow``: versions while they answer."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steelyard.cli.output import emit, note, stdout, table
from steelyard.cli.serving import actor, version_of
from steelyard.domain.errors import Fault, InvalidInput, NotFound
from steelyard.domain.model_version import parse_model, parse_ref
from steelyard.domain.operation import share_bp
from steelyard.settings import Settings, load_settings

if TYPE_CHECKING:
    from steelyard.services.serving_status import Disagreement, VersionStatus

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the history.")]
Ref = Annotated[str, typer.Argument(metavar="MODEL/VERSION")]
Model = Annotated[str, typer.Argument(metavar="MODEL")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands to ``steelyard serve``."""
    for command in (status, logs, scale, drain, shadow):
        app.command(command.__name__)(command)


def status(
    model: Annotated[str | None, typer.Argument(metavar="MODEL")] = None, as_json: AsJson = False
) -> None:
    """Show every version that serves or should: state, replicas, traffic, load, memory."""
    from steelyard.bootstrap import Platform
    from steelyard.cli.rollout_registry import tell_drifts

    platform = Platform(load_settings())
    name = None if model is None else parse_model(model)
    if name is not None and name not in platform.rollout_store.models():
        raise NotFound(f"{name} was never deployed.", "See: steelyard models list.")
    versions = platform.serving_status.versions(name)
    drifts = platform.aliases.standing(name)

    def show() -> None:
        if not versions:
            stdout.print("Nothing is served. Deploy something: steelyard deploy MODEL/VERSION")
            return
        columns = ("version", "role", "phase", "ready since", "Traffic", "Replicas", "Requests",
                   "Errors", "MB", "shadow")  # fmt: skip
        rows = (_cells(one) for one in versions)
        stdout.print(table("Serving (requests of the last 5 minutes)", columns, rows))
        for one in versions:
            if one.reason:
                stdout.print(f"{one.model}/{one.version}: {one.reason}", markup=False)
        tell_drifts(drifts)

    document = {"versions": [asdict(one) for one in versions],
                "drifts": [asdict(one) for one in drifts]}  # fmt: skip
    emit(document, as_json, show)


def logs(
    model: Annotated[str | None, typer.Argument(metavar="MODEL[/VERSION]")] = None,
    process: Annotated[
        str | None, typer.Option(metavar="NAME", help="A process of the platform instead.")
    ] = None,
    lines: Annotated[int, typer.Option(min=0, max=100_000, help="Last lines of each file.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as lines come.")] = False,
) -> None:  # fmt: skip
    """Show what a model's replicas logged, or a process of the platform (see steelyard status)."""
    from steelyard.bootstrap.replica_logs import follow_logs, log_tail

    if (model is None) == (process is None):
        fault = Fault("MODEL", "name a model, or a process by --process")
        raise InvalidInput(str(fault), (fault,))
    settings = load_settings()
    files = _process_files(settings, process) if process else _replica_files(settings, model or "")
    shown = ((path, line) for path in files for line in log_tail(path, lines))
    for path, line in follow_logs(files, lines) if follow else shown:
        stdout.print(f"{path.stem}: {line}" if len(files) > 1 else line, markup=False)


def scale(
    model: Model,
    least: Annotated[int, typer.Option("--min", min=1, help="Replicas at least.")],
    most: Annotated[int, typer.Option("--max", min=1, help="Replicas at most.")],
    reason: Reason = "", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Set between how many replicas each version of a model has; no replica is restarted."""
    from steelyard.bootstrap import Platform
    from steelyard.bootstrap.access import check_operator

    platform = Platform(load_settings())
    check_operator(platform.settings)
    name = parse_model(model)
    values = {"replicas_min": least, "replicas_max": most}
    platform.policies.change(name, values, actor(), reason)
    found = f"{least}" if least == most else f"{least} to {most}, by load,"
    emit({"model": name, **values}, as_json,
         lambda: stdout.print(f"{name} has {found} replicas a version from now on."))  # fmt: skip


def drain(ref: Ref, reason: Reason = "", as_json: AsJson = False) -> None:
    """Take a version out of service now, which is only kept warm."""
    from steelyard.bootstrap import Platform
    from steelyard.bootstrap.access import check_operator

    model, version = version_of(ref)
    platform = Platform(load_settings())
    check_operator(platform.settings)
    done = platform.operations.drain(model, version, actor(), reason)
    emit(asdict(done), as_json,
         lambda: stdout.print(f"{ref} finishes what it is asked and stops."))  # fmt: skip


def shadow(
    model: Model,
    version: Annotated[int | None, typer.Option(min=1, help="Who gets the copies.")] = None,
    share: Annotated[
        str, typer.Option(metavar="PERCENT", help="Share of stable's requests, e.g. 10%.")
    ] = "10%",
    off: Annotated[bool, typer.Option("--off", help="End the model's shadow.")] = False,
    reason: Reason = "", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Send a version copies of what stable answered, after the answer; clients never see it."""
    from steelyard.bootstrap import Platform
    from steelyard.bootstrap.access import check_operator

    if (version is None) != off:
        fault = Fault("--version", "name the version, or end the shadow by --off")
        raise InvalidInput(str(fault), (fault,))
    platform = Platform(load_settings())
    check_operator(platform.settings)
    name = parse_model(model)
    if version is None:
        ended = platform.operations.no_shadow(name, actor(), reason)
        emit(asdict(ended) | {"version": None, "share_bp": 0}, as_json,
             lambda: stdout.print(f"{name}/{ended.version} gets no copies any more."))  # fmt: skip
        return
    setting = platform.operations.shadow(name, version, _percent(share), actor(), reason)
    note("Copies go once it is ready: steelyard serve status")
    emit(asdict(setting), as_json, lambda: stdout.print(
        f"{name}/{version} gets copies of {setting.share_bp / 100:g} % of stable's requests."
    ))  # fmt: skip


def _percent(text: str) -> int:
    with suppress(ValueError):
        return share_bp(float(text.strip().removesuffix("%")))
    fault = Fault("--share", f"is a percentage such as 10%, not {text!r}")
    raise InvalidInput(str(fault), (fault,))


def _cells(one: "VersionStatus") -> Iterator[object]:
    yield f"{one.model}/{one.version}"
    yield one.role
    yield one.phase
    yield None if one.ready_since_us is None else _moment(one.ready_since_us)
    yield None if one.weight_bp is None else f"{one.weight_bp / 100:g} %"
    wanted = {one.replicas_min, one.replicas_max}
    yield f"{len(one.pids)} of {'-'.join(str(n) for n in sorted(wanted))}"
    yield one.requests
    yield one.errors
    yield None if one.memory_bytes is None else f"{one.memory_bytes / 1e6:.0f}"
    found = one.shadow
    yield "" if found is None else _repeated(found)


def _repeated(found: "Disagreement") -> str:
    """What a shadow's answers were like, and that a rollout asked for them."""
    by = ", by its rollout" if found.by == "rollout" else ""
    return f"{found.share_bp / 100:g} %{by}: {found.different} of {found.compared} differ"


def _moment(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us / 1e6, UTC):%Y-%m-%d %H:%M:%S}"


def _replica_files(settings: Settings, model: str) -> list[Path]:
    from steelyard.bootstrap.replica_logs import replica_log_files

    ref = parse_ref(model)
    files = replica_log_files(settings, ref.model, ref.version)
    if not files:
        raise NotFound(
            f"{model} has no replica's log on this machine.", "See: steelyard serve status."
        )
    return files


def _process_files(settings: Settings, process: str) -> list[Path]:
    known = {path.stem: path for path in settings.log_dir.glob("*.log")}
    if process not in known:
        raise NotFound(
            f"There is no log of a process {process!r}.",
            f"There are {', '.join(sorted(known))}." if known else "See: steelyard up.",
        )
    return [known[process]]
