"""The environment of every Ray process: fast mode, private ports, token, health periods.

Ray reads these variables when its modules are imported, so they must be in place before the
process starts; setting them later in Python changes nothing.
"""

import tempfile
from hashlib import sha256
from pathlib import Path

from steelyard.settings import Settings
from steelyard_serving.secret_files import bucket_key, private_dir, ray_token

REPLICA_PORTS = 200
"""Ports for each of HTTP and gRPC; a replica takes one of both."""


def serve_ports(settings: Settings) -> dict[str, int]:
    """Every further port of Ray and Ray Serve, as offsets of ``serve_ports_from``.

    Two platforms on one host differ in one setting and so in all of these. Left to their
    defaults they would share ports silently (``SO_REUSEPORT``) and answer each other's requests.
    """
    first = settings.serve_ports_from
    return {
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": first,
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": first + 1,
        "RAY_SERVE_HAPROXY_METRICS_PORT": first + 2,
        "RAY_SERVE_HAPROXY_STATS_PORT": first + 3,
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": first + 20,
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": first + 19 + REPLICA_PORTS,
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": first + 20 + REPLICA_PORTS,
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": first + 19 + 2 * REPLICA_PORTS,
    }


def proxy_dir(settings: Settings) -> Path:
    """The private folder of Ray Serve's own HAProxy.

    Its admin socket lets any local user in (mode 666), hence the folder of ours; its path gets a
    node id of 56 characters appended and must stay a valid socket path, hence the short name.
    """
    name = sha256(str(settings.home).encode()).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"sy-{name}"


def environment(settings: Settings) -> dict[str, str]:
    """The variables for Ray's head, the controller and every process that imports Ray Serve."""
    folder = proxy_dir(settings)
    token = settings.secret_dir / "ray.token"
    # Ray turns 127.0.0.1 into the machine's address and listens everywhere, except on systems
    # where it runs one node only; this variable says that we are such a one.
    alone = {} if settings.ray_address else {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    return {
        **settings.as_environment(),
        **alone,
        **{name: str(port) for name, port in serve_ports(settings).items()},
        **_CONSTANT,
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
    }


def prepare(settings: Settings) -> None:
    """Make the folders and secrets that the processes expect; repeating it changes nothing."""
    for folder in (settings.home, settings.run_dir, settings.log_dir, settings.spool_dir):
        private_dir(folder)
    private_dir(settings.ray_temp_dir)
    private_dir(proxy_dir(settings))
    bucket_key(settings)
    ray_token(settings)


_CONSTANT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    # One node has nowhere to move its replicas to, and the edge that asks them has ended before.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    # Workers run at nice 15 by default and would starve beside anything else.
    "RAY_worker_niceness": "0",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "1",
    # A dead proxy is replaced after some 5 s instead of 27 s.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    # The first refused connection takes a dead replica out; its health check puts it back.
    "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
    "RAY_SERVE_HAPROXY_NBTHREAD": "2",
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "15",
    # The access log has no reader; the platform counts requests in the replicas.
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # The controller moves traffic away before it removes a version.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "OMP_NUM_THREADS": "1",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
