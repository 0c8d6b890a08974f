"""Ports for the servers that a test starts."""

import random
import socket
from contextlib import ExitStack

BELOW_THE_KERNELS = range(30_500, 32_700)
"""Linux gives ports from 32,768 on to whoever asks for any: a cluster's processes ask for many."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now; nobody is kept from taking them."""
    with ExitStack() as held:
        found: list[int] = []
        for port in random.sample(BELOW_THE_KERNELS, len(BELOW_THE_KERNELS)):
            try:
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError(f"no {count} free ports in {BELOW_THE_KERNELS}")
