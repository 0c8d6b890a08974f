"""``steelyard jobs``, and how ``steelyard train`` submits. Heavy imports wait for the command."""

import secrets
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steelyard.cli.output import emit, note, stdout, table
from steelyard.domain.errors import Fault, InvalidInput
from steelyard_workflows.cli.registered import AsJson

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

    from steelyard_workflows.jobs.api import JobsApi

NAME_ONE = "Give --address http://HEAD:8265, or set STEELYARD_JOBS_ADDRESS."
app = typer.Typer(help="Training that was submitted to a Ray cluster.", no_args_is_help=True)

Address = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The cluster's Jobs API, http://HEAD:8265."),
]
Job = Annotated[str, typer.Argument(metavar="ID", help="What steelyard train told.")]
Detach = Annotated[bool, typer.Option("--detach", help="Submit to a cluster and come back.")]
Token = Annotated[
    str | None,
    typer.Option(metavar="TOKEN", help="Part of the job's id: the same one starts nothing twice."),
]
WorkingDir = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="What a cluster gets; default: the folder of SOURCE."),
]
JobSettings = Annotated[
    list[str] | None,
    typer.Option("--setting", metavar="NAME=VALUE", help="A setting for the job; repeatable."),
]


@app.command("list")
def list_jobs(address: Address = None, as_json: AsJson = False) -> None:
    """List the training jobs of a cluster, the newest first."""
    from steelyard_workflows.jobs.watching import training_jobs

    found = [document(job) for job in training_jobs(api_at(address))]
    columns = ("job", "state", "model", "team", "owner", "started", "ended")
    shown = (
        [row["job"], row["state"], row["model"], row["team"], row["owner"],
         _minute(row["started_ms"]), _minute(row["ended_ms"])]
        for row in found
    )  # fmt: skip
    emit({"jobs": found}, as_json, lambda: stdout.print(table("Jobs", columns, shown)))


@app.command("logs")
def show_logs(
    job: Job,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the job ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print a job's log from its start."""
    api = api_at(address)
    parts: list[str] = []
    write = parts.append if as_json else partial(print, end="", flush=True)
    if follow:
        _followed(api, job, write)
    else:
        api.get_job_info(job)
        write(api.get_job_logs(job))
    if as_json:
        found = document(api.get_job_info(job))
        emit({**found, "log": "".join(parts)}, True, lambda: None)


@app.command("attach")
def attach(job: Job, address: Address = None, as_json: AsJson = False) -> None:
    """Follow a job from its start to its end, and leave with its exit code."""
    watch(api_at(address), job, as_json)


@app.command("stop")
def stop(job: Job, address: Address = None, as_json: AsJson = False) -> None:
    """End a job; it is booked as cancelled, with what it cost until then."""
    from steelyard_workflows.jobs import watching

    _say(watching.stop(api_at(address), job), as_json)


def submit(
    source: str, address: str, working_dir: Path | None, token: str | None,
    settings: Sequence[str], detach: bool, as_json: bool,
) -> None:  # fmt: skip
    """Check, send, follow: ``steelyard train SOURCE --address URL``."""
    _check_token(token)
    from steelyard_workflows.environment import set_variables

    set_variables()
    from steelyard_workflows.jobs import submission, watching

    made = submission.prepared(source, working_dir, settings)
    api = api_at(address)
    job, is_new = submission.submit(api, made, token or secrets.token_hex(3))
    note("  submitted" if is_new else "  is there already; nothing was sent")
    if detach:
        note(watching.attach(api, job))
        _say(api.get_job_info(job), as_json)
        return
    watch(api, job, as_json)


def watch(api: "JobsApi", job: str, as_json: bool) -> None:
    """A job's log on standard error until it ends, then how it ended; its exit code.

    Ctrl-C leaves the job alone.
    """
    from steelyard_workflows.jobs.watching import exit_code

    found = _followed(api, job, partial(print, end="", file=sys.stderr, flush=True))
    _say(found, as_json)
    if exit_code(found):
        raise typer.Exit(exit_code(found))


def address_for(address: str | None, *job_options: object) -> str:
    """Where training is submitted to: the option, else the setting; empty: it runs here.

    Raises:
        InvalidInput: it runs here, and an option is about jobs.
    """
    from steelyard.settings import load_settings

    place = address or load_settings().jobs_address
    if not place and any(job_options):
        fault = Fault("--address", "no cluster is named, and an option is about a job")
        raise InvalidInput(str(fault), (fault,), NAME_ONE)
    return place


def api_at(address: str | None) -> "JobsApi":
    """The Jobs API that the option or the setting names.

    Raises:
        InvalidInput: neither names one.
    """
    place = address_for(address)
    if not place:
        fault = Fault("--address", "no cluster is named")
        raise InvalidInput(str(fault), (fault,), NAME_ONE)
    from steelyard_workflows.environment import set_variables

    set_variables()
    from steelyard_workflows.jobs.api import JobsApi

    return JobsApi(place)


def document(job: "JobDetails") -> dict[str, Any]:
    """A job as JSON has it; times are milliseconds since the epoch, UTC."""
    from steelyard_workflows.jobs import submission
    from steelyard_workflows.jobs.api import ended
    from steelyard_workflows.jobs.watching import exit_code

    about = job.metadata or {}
    return {
        "job": job.submission_id,
        "state": job.status.value,
        "exit_code": exit_code(job) if ended(job) else None,
        "model": about.get(submission.MODEL),
        "team": about.get(submission.TEAM),
        "owner": about.get(submission.OWNER),
        "started_ms": job.start_time or None,
        "ended_ms": job.end_time or None,
    }


def _followed(api: "JobsApi", job: str, write: Callable[[str], object]) -> "JobDetails":
    from steelyard_workflows.jobs.watching import attach as back
    from steelyard_workflows.jobs.watching import follow

    try:
        return follow(api, job, write)
    except KeyboardInterrupt:
        note(f"\nThe job goes on. {back(api, job)}")
        raise


def _say(job: "JobDetails", as_json: bool) -> None:
    found = document(job)
    emit(found, as_json, lambda: print(found["job"], found["state"]))
    if found["state"] == "FAILED" and job.driver_exit_code is None:
        note(job.message or "Ray does not say why.")


def _minute(at_ms: int | None) -> str | None:
    if at_ms is None:
        return None
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M}Z"


def _check_token(token: str | None) -> None:
    usable = token is None or (token.replace("-", "").isalnum() and token.isascii())
    if not usable or (token and len(token) > 64):
        fault = Fault("--submission-id", f"{token!r} is not 1 to 64 letters, digits and hyphens")
        raise InvalidInput(str(fault), (fault,))
