"""The gRPC door's process: messages in, REST to the edge on this machine, messages out."""

import asyncio
import logging
import re
import signal
from pathlib import Path

import grpc
import uvloop

from steelyard.domain.errors import InvalidInput
from steelyard.settings import Settings, load_settings
from steelyard_serving.edge.files import edge_files
from steelyard_serving.open_inference_grpc.edge_client import LONGEST_S, EdgeClient
from steelyard_serving.open_inference_grpc.service import Service

CALLS = 256
"""Calls at once; more are refused as RESOURCE_EXHAUSTED. Each may hold a body of the limit."""

GRACE_S = 5.0

AGE_S = 600.0
"""A connection is asked to end after this time, and its calls go on for a while; clients connect
again by themselves. So a message that never arrives whole holds one of the calls for so long."""

_BLOCK = rb"-----BEGIN %s-----\n.+?\n-----END %s-----\n?"
PRIVATE_KEY = re.compile(_BLOCK % ((rb"[A-Z ]*PRIVATE KEY",) * 2), re.DOTALL)
CERTIFICATE = re.compile(_BLOCK % ((rb"CERTIFICATE",) * 2), re.DOTALL)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Answer calls until ``stop``, then let those that run end.

    Raises:
        RuntimeError: the port is taken.
    """
    server = grpc.aio.server(
        maximum_concurrent_rpcs=CALLS,
        options=[
            # The same limit as REST's for what comes; what goes out is the model's matter.
            ("grpc.max_receive_message_length", settings.body_limit_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_connection_age_ms", int(AGE_S * 1000)),
            ("grpc.max_connection_age_grace_ms", int(2 * LONGEST_S * 1000)),
            # A second process on the same port must fail, not take every other call.
            ("grpc.so_reuseport", 0),
        ],
    )
    async with EdgeClient(edge_files(settings).grpc, CALLS) as edge:
        server.add_generic_rpc_handlers((Service(edge).handler(),))
        _bind(server, settings)
        await server.start()
        await stop.wait()
        await server.stop(GRACE_S)


def _bind(server: grpc.aio.Server, settings: Settings) -> None:
    address = f"{settings.host}:{settings.grpc_port}"
    if settings.tls_certificate:
        server.add_secure_port(address, credentials(Path(settings.tls_certificate).read_bytes()))
    else:
        server.add_insecure_port(address)


def credentials(pem: bytes) -> grpc.ServerCredentials:
    """The edge's certificate for gRPC, which wants the key and the chain apart.

    Raises:
        InvalidInput: one of the two is not in the file.
    """
    keys, chain = PRIVATE_KEY.findall(pem), CERTIFICATE.findall(pem)
    if not keys or not chain:
        raise InvalidInput("tls_certificate: the file must hold a certificate and its private key")
    return grpc.ssl_server_credentials([(keys[0], b"".join(chain))])


async def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(load_settings(), stop)


if __name__ == "__main__":
    uvloop.run(main())  # more calls a second than on asyncio's own loop: docs/adr/0007
