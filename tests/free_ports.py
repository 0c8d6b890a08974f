"""Ports for the servers that a test starts."""

import socket


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now; nobody is kept from taking them."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports
