"""The environment of a training process; applied before ray, mlflow or torch is imported.

These libraries read their variables at import, and children inherit them. What is set already
stays: an operator's choice wins.
"""

import os
import secrets
from pathlib import Path

from steelyard.settings import Settings

VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_worker_niceness": "0",
    # These have another environment than the workers of a run, which cannot use them.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "OMP_NUM_THREADS": "1",
}

RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""The variable that Ray sets for the command of a job."""


def set_variables() -> None:
    """Set what the libraries read; nothing is written."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)


def prepare(settings: Settings) -> None:
    """Set the variables, and the token that the platform's Ray asks for.

    The token file belongs to the home's private secrets; without the platform it is made here,
    so that a local Ray is closed to other users of the machine as well. A Ray job has its
    cluster's token, or none.
    """
    set_variables()
    if not settings.ray_address and RAY_JOB not in os.environ:
        # An actor of each run that waits for a node to be reclaimed. With our one, all would be.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    if "RAY_AUTH_MODE" in os.environ or RAY_JOB in os.environ:
        return
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(_token(settings))
    if not settings.ray_address:
        # Our own Ray is one node: this keeps it, and what talks to it, on the loopback interface.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


def _token(settings: Settings) -> Path:
    """The file of the platform's Ray token; of several processes, one makes it."""
    token = settings.secret_dir / "ray.token"
    if token.exists():
        return token
    settings.secret_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = token.with_name(f"{token.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    try:
        os.link(draft, token)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return token
