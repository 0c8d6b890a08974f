"""The edge's sockets: the public port, the gRPC door's and the controller's.

The maps of the last run are read from disk: a restarted edge serves the last weights before
anybody tells it.
"""

import asyncio
import socket
from pathlib import Path

import uvicorn

from steelyard.settings import Settings
from steelyard_serving.edge.config import EdgeKeys
from steelyard_serving.edge.files import edge_files
from steelyard_serving.python_edge.admin import AdminServer
from steelyard_serving.python_edge.connection import Connection
from steelyard_serving.python_edge.doors import Doors
from steelyard_serving.python_edge.guard import CanaryGuard
from steelyard_serving.python_edge.router import Router
from steelyard_serving.python_edge.table import Table
from steelyard_serving.secret_files import bucket_key, pin_key, private_dir

CONNECTIONS = 2000
IDLE_S = 60
GRACE_S = 5


async def serve(settings: Settings) -> None:
    """Answer until SIGTERM or SIGINT, then let those that run end.

    Raises:
        OSError: the port is taken.
    """
    private_dir(settings.run_dir)
    files = edge_files(settings)
    table, guard = Table(files), CanaryGuard()
    keys = EdgeKeys(bucket_key(settings), pin_key(settings))
    doors = Doors(table)
    router = Router(settings, keys, table, guard, doors)
    admin = await AdminServer(table, guard).start(files.admin)
    public = uvicorn.Server(_config(router, settings.tls_certificate))
    private = uvicorn.Server(_config(router, ""))
    with _address(settings) as door, _socket(files.grpc) as grpc_door:
        await asyncio.gather(public.serve([door]), private.serve([grpc_door]))
    admin.close()
    doors.close()


def _config(router: Router, certificate: str) -> uvicorn.Config:
    return uvicorn.Config(
        router, http=Connection, ws="none", lifespan="off", interface="asgi3", access_log=False,
        log_config=None, server_header=False, date_header=False, proxy_headers=False,
        limit_concurrency=CONNECTIONS, timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=GRACE_S, ssl_certfile=certificate or None,
    )  # fmt: skip


def _address(settings: Settings) -> socket.socket:
    """The public port, which no second process may share."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    return socket.create_server((settings.host, settings.edge_port), family=family, backlog=1024)


def _socket(path: Path) -> socket.socket:
    """A socket of this user's alone."""
    path.unlink(missing_ok=True)
    door = socket.socket(socket.AF_UNIX)
    door.bind(str(path))
    path.chmod(0o600)
    door.listen(1024)
    return door
