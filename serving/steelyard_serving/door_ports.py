"""The port at which a version's replicas answer: one for all of them on this machine.

They share it (``SO_REUSEPORT``): the kernel gives each connection to one of those that are there.
So a replica that dies is out at once and one that starts is in, and nobody has to be told; the
edge keeps reaching them while Ray, the controller or the database is away. A version keeps its
port over restarts, in a file of the run folder.
"""

import fcntl
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from steelyard.domain.errors import Unavailable
from steelyard.settings import Settings
from steelyard_serving.secret_files import private_dir

LOOPBACK = "127.0.0.1"
FIRST, COUNT = 20, 400
"""Which ports after ``serve_ports_from`` versions may have."""

BACKLOG = 1024
NAME = re.compile(r"(?P<model>.+)-v(?P<version>[0-9]+)")


def open_door(settings: Settings, model: str, version: int) -> socket.socket:
    """A bound socket at the version's port, which is chosen now if it has none; not listening yet.

    Raises:
        Unavailable: no port is free.
    """
    folder = _folder(settings)
    with _alone(folder):
        known = doors(settings)
        port = known.get((model, version))
        if port is not None and (found := _shared(port)) is not None:
            return found
        first = settings.serve_ports_from + FIRST
        for candidate in sorted(set(range(first, first + COUNT)) - set(known.values())):
            if (found := _own(candidate)) is not None:
                _write(folder / f"{model}-v{version}", str(candidate))
                return found
    first = settings.serve_ports_from + FIRST
    raise Unavailable(
        f"No port from {first} to {first + COUNT - 1} is free for {model}/{version}.",
        "Set STEELYARD_SERVE_PORTS_FROM to where ports are free.",
    )


def door_port(settings: Settings, model: str, version: int) -> int | None:
    """The port of a version; None: none of its replicas was ever ready here."""
    return _read(settings.run_dir / "doors" / f"{model}-v{version}")


def doors(settings: Settings) -> Mapping[tuple[str, int], int]:
    """All versions that have a port."""
    found = {}
    for file in sorted((settings.run_dir / "doors").glob("*-v*")):
        name, port = NAME.fullmatch(file.name), _read(file)
        if name is not None and port is not None:
            found[name["model"], int(name["version"])] = port
    return found


def forget_door(settings: Settings, model: str, version: int) -> None:
    """Give a version's port back; replicas that still drain keep it from others until they end."""
    folder = _folder(settings)
    with _alone(folder):
        (folder / f"{model}-v{version}").unlink(missing_ok=True)


def _folder(settings: Settings) -> Path:
    return private_dir(settings.run_dir / "doors")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process of this machine at a time."""
    lock = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _shared(port: int) -> socket.socket | None:
    """A socket at a port that others of ours may share; None: it is somebody else's."""
    return _bound(port, before=(socket.SO_REUSEADDR, socket.SO_REUSEPORT))


def _own(port: int) -> socket.socket | None:
    """A socket at a port that nobody else has; None: somebody has.

    Sharing is silent, so it is allowed only after the port was got alone.
    """
    made = _bound(port)
    if made is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return made


def _bound(port: int, before: Sequence[int] = ()) -> socket.socket | None:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    for option in before:
        made.setsockopt(socket.SOL_SOCKET, option, 1)
    try:
        made.bind((LOOPBACK, port))
    except OSError:
        made.close()
        return None
    return made


def _read(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except FileNotFoundError:
        return None


def _write(file: Path, text: str) -> None:
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.write_text(text, encoding="ascii")
    draft.rename(file)
