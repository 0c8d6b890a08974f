"""What replicas and the platform's processes logged on this machine: files, their ends, what comes.

Ray keeps a session's logs in one folder: Ray Serve's own words about a replica in a file of the
replica's name, what its process wrote to stderr in a file that ends in the process's id.
"""

import os
import time
from collections.abc import Collection, Generator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

POLL_S = 0.3
LARGEST_TAIL = 2**20
"""Bytes of a file's end that are looked at."""


def replica_files(session: Path, application: str, pids: Collection[int]) -> list[Path]:
    """The logs of an application's replicas, oldest first; those of its living processes, too."""
    folder = session / "logs"
    own = (folder / "serve").glob(f"replica_{application}_*.log")
    errors = (path for pid in pids for path in folder.glob(f"worker-*-{pid}.err"))
    files = [path for path in (*own, *errors) if path.is_file()]
    return sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name))


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a file, the unfinished one among them."""
    with path.open("rb") as file:
        return [_text(line) for line in _last(_end_of(file).splitlines(), lines)]


def follow(paths: Collection[Path], lines: int) -> Generator[tuple[Path, str], None, None]:
    """The last lines of each file, then every whole line that is written to any, without end."""
    with ExitStack() as stack:
        files = {path: stack.enter_context(path.open("rb")) for path in paths}
        rests = {}
        for path, file in files.items():
            *whole, rests[path] = _end_of(file).split(b"\n")
            yield from ((path, _text(line)) for line in _last(whole, lines))
        while True:
            quiet = True
            for path, file in files.items():
                *whole, rests[path] = (rests[path] + file.read()).split(b"\n")
                for line in whole:
                    quiet = False
                    yield path, _text(line)
            if quiet:
                time.sleep(POLL_S)


def _end_of(file: BinaryIO) -> bytes:
    """The end of a file, which is left there; its first line may be cut."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - LARGEST_TAIL))
    return file.read()


def _last(lines: list[bytes], count: int) -> list[bytes]:
    return lines[-count:] if count else []


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r")
