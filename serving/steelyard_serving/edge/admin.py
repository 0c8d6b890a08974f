"""HAProxy's admin socket: read and change a map of the running edge."""

import socket
from pathlib import Path

from steelyard.domain.errors import Unavailable

TIMEOUT_S = 3.0


class AdminSocket:
    """One command a connection, as HAProxy's command line works by default."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def show_map(self, file: Path) -> dict[str, str]:
        """The live entries of a map."""
        entries = {}
        for line in self._ask(f"show map {file}").splitlines():
            # The first word is the entry's address in memory.
            _, key, value = line.split(" ", 2)
            entries[key] = value
        return entries

    def set_entry(self, file: Path, key: str, value: str, known: bool) -> None:
        """Change an entry that is ``known`` to be there, or add it."""
        self._do(f"{'set' if known else 'add'} map {file} {key} {value}")

    def delete_entry(self, file: Path, key: str) -> None:
        """Remove an entry."""
        self._do(f"del map {file} {key}")

    def show_table(self, name: str) -> dict[str, dict[str, str]]:
        """What a stick table counts: key -> name of a counter -> its value."""
        rows: dict[str, dict[str, str]] = {}
        for line in self._ask(f"show table {name}").splitlines():
            if not line.startswith("#"):
                # The first word is the entry's address in memory.
                pairs = dict(word.split("=", 1) for word in line.split()[1:])
                rows[pairs.pop("key")] = pairs
        return rows

    def _do(self, command: str) -> None:
        answer = self._ask(command).strip()
        if answer:
            raise Unavailable(f"The edge refused '{command}': {answer}")

    def _ask(self, command: str) -> str:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(TIMEOUT_S)
                connection.connect(str(self._path))
                connection.sendall(f"{command}\n".encode())
                parts = []
                while part := connection.recv(65536):
                    parts.append(part)
        except OSError as error:
            raise Unavailable(
                f"The edge's admin socket {self._path} does not answer: {error}.",
                "Is the edge running? See `steelyard status`.",
            ) from error
        answer = b"".join(parts).decode()
        if answer != "\n" and not answer.endswith("\n\n"):
            raise Unavailable(f"The edge broke off its answer to '{command}'.")
        if answer.startswith(("Unknown map", "Unknown command", "Permission denied")):
            raise Unavailable(f"The edge does not know '{command}': {answer.strip()}")
        return answer.strip("\n")
