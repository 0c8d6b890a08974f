"""The admin socket: the commands of HAProxy's that the controller uses.

So the controller changes either edge in the same way, and asks either what it has live.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from steelyard_serving.edge.canary import GUARD
from steelyard_serving.python_edge.guard import CanaryGuard
from steelyard_serving.python_edge.table import Table

NOT_FOUND = "entry not found."
ENTRY = "0x0"
"""HAProxy shows an entry's address in memory before it; there is none here."""
LONGEST_COMMAND = 1024 * 1024


class AdminServer:
    """Answers one command a connection."""

    def __init__(self, table: Table, guard: CanaryGuard) -> None:
        self._maps = table.maps
        self._guard = guard

    async def start(self, path: Path) -> asyncio.Server:
        """Listen at a socket of this user's alone."""
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, path, limit=LONGEST_COMMAND)
        path.chmod(0o600)
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            said = self.obey(line.decode().rstrip())
            # An empty line ends every answer: who asks can tell that he has all of it.
            writer.write(f"{said}\n\n".encode() if said else b"\n")
            await writer.drain()
        except (ValueError, ConnectionError):
            pass  # a command of no end, or nobody waits for the answer
        finally:
            writer.close()

    def obey(self, command: str) -> str:
        """Do what a command says; what it is answered with, empty when there is nothing to say."""
        if command == f"show table {GUARD}":
            rows = self._guard.shown().items()
            return "\n".join(f"{ENTRY}: key={name} {_counters(row)}" for name, row in rows)
        verb, _, rest = command.partition(" map ")
        name, *words = rest.split(" ", 2)
        entries = self._maps.get(Path(name))
        if entries is None:
            return "Unknown map identifier." if rest else "Unknown command."
        if verb == "show":
            return "\n".join(f"{ENTRY} {key} {value}" for key, value in entries.items())
        if verb == "add":
            entries[words[0]] = words[1]
        elif words[0] not in entries:
            return NOT_FOUND
        elif verb == "set":
            entries[words[0]] = words[1]
        elif verb == "del":
            del entries[words[0]]
        return ""


def _counters(row: Mapping[str, int]) -> str:
    return " ".join(f"{name}={count}" for name, count in row.items())
