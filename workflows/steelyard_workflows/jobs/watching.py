"""Following a job's log to its end, and ending it early."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import aiohttp
from ray.job_submission import JobDetails, JobStatus

from steelyard.cli.output import note
from steelyard.domain.errors import Conflict, Unavailable
from steelyard_workflows.jobs.api import JobsApi, ended
from steelyard_workflows.jobs.submission import MODEL, STOP_WAIT_S

POLL_S = 1.0
PATIENCE_S = 120.0
"""How long a cluster that is away is asked again."""
QUIET_S = 60.0
"""Without a word for so long, the connection is made anew."""
INTERRUPTED = 130
Show = Callable[[str], object]


class Log:
    """Shows a log once, however often it is read from its start."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._shown = 0
        self._read = 0

    def again(self) -> None:
        """Reading begins anew."""
        self._read = 0

    def read(self, text: str) -> None:
        """Show what of ``text`` was not shown yet."""
        self._read += len(text)
        fresh = min(self._read - self._shown, len(text))
        if fresh > 0:
            self._show(text[len(text) - fresh :])
            self._shown = self._read


def follow(api: JobsApi, job: str, show: Show) -> JobDetails:
    """Show a job's whole log as it grows, until the job has ended; how it ended.

    A connection that breaks is made again.

    Raises:
        NotFound: there is no such job.
        Unavailable: the cluster is away for longer than ``PATIENCE_S``; the job may go on.
    """
    log, alive_at = Log(show), time.monotonic()
    found: JobDetails = api.get_job_info(job)
    while not ended(found):
        try:
            asyncio.run(_tail(api, job, log))
            found, alive_at = api.get_job_info(job), time.monotonic()
        except (Unavailable, aiohttp.ClientError, OSError, RuntimeError) as error:
            if time.monotonic() - alive_at > PATIENCE_S:
                raise Unavailable(
                    f"The cluster at {api.address} is away: {error}", attach(api, job)
                ) from error
        time.sleep(0 if ended(found) else POLL_S)
    log.again()
    log.read(api.get_job_logs(job))
    return found


async def _tail(api: JobsApi, job: str, log: Log) -> None:
    """Read until the job has ended, or nothing came for long: the connection may be dead."""
    log.again()
    chunks = api.tail_job_logs(job)
    with suppress(TimeoutError):
        while True:
            async with asyncio.timeout(QUIET_S):
                text = await anext(chunks, None)
            if text is None:
                return
            log.read(text)


def training_jobs(api: JobsApi) -> list[JobDetails]:
    """The jobs of a cluster that train something of ours, the newest first."""
    ours = [job for job in api.list_jobs() if MODEL in (job.metadata or {}) and job.submission_id]
    return sorted(ours, key=lambda job: job.start_time or 0, reverse=True)


def attach(api: JobsApi, job: str) -> str:
    """How to come back to a job, in a sentence."""
    return f"Come back with: steelyard jobs attach {job} --address {api.address}"


def stop(api: JobsApi, job: str) -> JobDetails:
    """Ask a job to end, and wait until it has booked what it cost; how it ended.

    A job that is stopped already stays so.

    Raises:
        NotFound: there is no such job.
        Conflict: it has ended by itself.
        Unavailable: it did not end in time.
    """
    found: JobDetails = api.get_job_info(job)
    if not ended(found):
        api.stop_job(job)
        note("Waiting until it has booked what it cost")
    deadline = time.monotonic() + STOP_WAIT_S + PATIENCE_S
    while not ended(found):
        if time.monotonic() > deadline:
            raise Unavailable(f"Job {job} was asked to stop, and is {found.status.value} still.")
        time.sleep(POLL_S)
        found = api.get_job_info(job)
    if found.status != JobStatus.STOPPED:
        raise Conflict(f"Job {job} has ended by itself: {found.status.value}.")
    return found


def exit_code(job: JobDetails) -> int:
    """The exit code of a job that has ended: its command's, or what a shell would say."""
    if job.status == JobStatus.SUCCEEDED:
        return 0
    if job.status == JobStatus.STOPPED:
        return INTERRUPTED
    code = job.driver_exit_code or 0  # below 0: a signal's number
    return code if code > 0 else 1
