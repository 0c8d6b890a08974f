"""The environment of every Ray process: token, loopback, health periods.

Ray reads these variables when its modules are imported, so they must be in place before the
process starts; setting them later in Python changes nothing.
"""

from steelyard.settings import Settings
from steelyard_serving.secret_files import bucket_key, private_dir, ray_token


def environment(settings: Settings) -> dict[str, str]:
    """The variables for Ray's head, the controller and every process that imports Ray Serve."""
    token = settings.secret_dir / "ray.token"
    # Ray turns 127.0.0.1 into the machine's address and listens everywhere, except on systems
    # where it runs one node only; this variable says that we are such a one.
    alone = {} if settings.ray_address else {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    return {
        **settings.as_environment(),
        **alone,
        **_CONSTANT,
        "RAY_AUTH_TOKEN_PATH": str(token),
    }


def prepare(settings: Settings) -> None:
    """Make the folders and secrets that the processes expect; repeating it changes nothing."""
    for folder in (settings.home, settings.run_dir, settings.log_dir, settings.spool_dir):
        private_dir(folder)
    private_dir(settings.ray_temp_dir)
    bucket_key(settings)
    ray_token(settings)


_CONSTANT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    # One node has nowhere to move its replicas to, and the edge that asks them has ended before.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    # Workers run at nice 15 by default and would starve beside anything else.
    "RAY_worker_niceness": "0",
    # A replica that runs already tells how many requests it has only if replicas are who is asked.
    "RAY_SERVE_COLLECT_AUTOSCALING_METRICS_ON_HANDLE": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "OMP_NUM_THREADS": "1",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
