"""Does MLflow answer? Asked before its client is, which would go on trying.

MLflow's client repeats a failed HTTP request for four minutes, and a first connection to a
database for an hour; whoever has something better to do asks here first.
"""

import os

from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from steelyard.domain.errors import Unavailable

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

PATIENCE_S = 5
SERVERS = ("postgresql", "mysql")
"""Databases behind a network; SQLite is a file, which needs no asking."""


def check_answers(uri: str) -> None:
    """Ask once.

    Raises:
        Unavailable: nobody answers within ``PATIENCE_S``, or only to say that it is out of order.
    """
    if uri.startswith(("http://", "https://")):
        _check_server(uri)
    elif uri.startswith(SERVERS):
        _check_database(uri)


def _check_server(uri: str) -> None:
    try:
        # MLflow's own, so that its credentials, certificates and proxies count; both are untyped.
        credentials = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
        answer = http_request(  # type: ignore[no-untyped-call]
            credentials, "/health", "GET", timeout=PATIENCE_S, max_retries=0, raise_on_status=False
        )
    except MlflowException as error:
        raise _silent(uri) from error
    if answer.status_code >= 500:  # a proxy says 404 or 401, and still somebody answers
        raise unavailable(f"{_shown(uri)} says {answer.status_code}.")


def _check_database(uri: str) -> None:
    engine = create_engine(
        make_url(uri), poolclass=NullPool, connect_args={"connect_timeout": PATIENCE_S}
    )
    try:
        engine.connect().close()
    except SQLAlchemyError as error:
        raise _silent(uri) from error


def _silent(uri: str) -> Unavailable:
    """The same words each time, so that a log tells it once; the client's name object ids."""
    return unavailable(f"nobody answers at {_shown(uri)}.")


def _shown(uri: str) -> str:
    return make_url(uri).render_as_string(hide_password=True)


def unavailable(cause: object) -> Unavailable:
    """The error that says so."""
    return Unavailable(f"The registry does not answer: {cause}", "Try again in a moment.")
