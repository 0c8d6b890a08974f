"""Ray's Jobs API over HTTP, with our errors and a limit on waiting.

``_do_request`` and ``_raise_error`` are Ray 2.60's inner methods, through which all of the client
goes: overriding them is one place for every error, and the only way to a time-out.
"""

import logging
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from steelyard.domain.errors import Conflict, Fault, InvalidInput, NotFound, Refused, Unavailable

CONNECT_WITHIN_S = 5.0
ANSWER_WITHIN_S = 60.0
TALKATIVE = (
    "ray.dashboard.modules.job.sdk",
    "ray.dashboard.modules.dashboard_sdk",
    "ray._private.runtime_env.packaging",
)
"""Ray's loggers that tell of every upload."""


class JobsApi(JobSubmissionClient):
    """The Jobs API at one address.

    Every method may raise ``Unavailable`` (the cluster is away), ``Refused`` (it wants a token)
    and ``NotFound`` (it knows no such job).

    Raises:
        InvalidInput: the address is not one of a Jobs API.
        Unavailable: nothing answers there, or something else does.
        Refused: the token that the environment names cannot be read.
    """

    def __init__(self, address: str) -> None:
        self.address = _url(address)
        _knock(self.address)
        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        os.environ["RAY_API_SERVER_ADDRESS"] = self.address  # else a RAY_ADDRESS would win
        try:
            super().__init__(self.address)
        except AuthenticationError as error:
            raise self._no_token(error) from error
        except (RuntimeError, ValueError, KeyError, OSError) as error:
            raise Unavailable(
                f"What answers at {self.address} is not Ray's Jobs API: {error}",
                "It belongs to the dashboard of Ray's head, port 8265 unless said otherwise.",
            ) from error

    @property
    def ray_version(self) -> str | None:
        """The cluster's version of Ray."""
        return self._server_ray_version

    def nodes(self) -> Sequence[Mapping[str, float]] | None:
        """What each living node has in all; None when the cluster does not tell."""
        answer = self._do_request("GET", "/api/v0/nodes")
        if answer.status_code != 200:
            return None
        rows = answer.json()["data"]["result"]["result"]
        return [row["resources_total"] for row in rows if row["state"] == "ALIVE"]

    def find(self, job: str) -> JobDetails | None:
        """What is known of a job; None when there is none with this id."""
        try:
            return self.get_job_info(job)
        except NotFound:
            return None

    def _no_token(self, error: AuthenticationError) -> Refused:
        return Refused(
            f"The cluster at {self.address} asks for its token: {str(error).splitlines()[0]}",
            "Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to a file with the token of the "
            "cluster; who runs the cluster has it.",
        )

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        try:
            return super()._do_request(method, endpoint, timeout=ANSWER_WITHIN_S, **options)
        except AuthenticationError as error:
            raise self._no_token(error) from error
        except OSError as error:  # all errors of requests are
            raise Unavailable(
                f"The cluster at {self.address} does not answer: {error}",
                "A job that was started goes on.",
            ) from error

    def _raise_error(self, r: Any) -> None:
        said = next(iter(r.text.strip().splitlines()[-1:]), "")
        if r.status_code == 404:
            raise NotFound(
                f"The cluster at {self.address} knows no such job: {said}",
                f"See steelyard jobs list --address {self.address}.",
            )
        if "already exists" in said:
            raise Conflict(f"The cluster at {self.address} has this job: {said}")
        raise Unavailable(f"The cluster at {self.address} answers {r.status_code}: {said}")


def ended(job: JobDetails) -> bool:
    """Whether a job succeeded, failed or was stopped."""
    status: JobStatus = job.status
    return bool(status.is_terminal())


def _url(address: str) -> str:
    parts = urlsplit(address if "://" in address else f"http://{address}")
    try:
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        usable = False
    if not usable or parts.username or parts.password:
        fault = Fault("--address", f"{parts.scheme}://{parts.netloc.rpartition('@')[2]} is not "
                                   "the address of a Jobs API")  # fmt: skip
        raise InvalidInput(
            str(fault), (fault,), "It looks like http://HEAD:8265; a token comes from a file."
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _knock(url: str) -> None:
    """Find out in seconds whether somebody is there; Ray's client would wait for minutes."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((str(parts.hostname), port), CONNECT_WITHIN_S).close()
    except OSError as error:
        raise Unavailable(
            f"The cluster at {url} does not answer: {error}.",
            "Is Ray's head running there, with its dashboard, and open to this machine?",
        ) from error
