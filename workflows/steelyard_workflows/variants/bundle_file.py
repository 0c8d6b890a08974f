"""A bundle's one form: a ZIP of six files in their order, the same bytes for the same content.

Nothing in it is compressed. What a deflater writes depends on its version, and a reader that
takes stored entries alone cannot be made to unpack more than it was given.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from steelyard.domain.errors import Refused
from steelyard.domain.model_files import LARGEST_FILE, check_content

FILE = "bundle.zip"
MANIFEST, MODEL = "manifest.json", "model.onnx"
SMALL, ROWS = 2**20, 64 * 2**20
ENTRIES: Mapping[str, int] = {
    MANIFEST: SMALL, "README.md": SMALL, "run.py": SMALL, "check_rows.npy": ROWS,
    "check_answers.npy": ROWS, MODEL: LARGEST_FILE,
}  # fmt: skip
"""What is in a bundle, in this order, and how many bytes each may have at most."""
TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest that a ZIP can say; when a bundle was made is in the registry."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was read: what it says of itself, and its model's bytes, both verified."""

    manifest: Mapping[str, Any]
    model: bytes


def write(path: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Write a bundle; digests and sizes of the files are added to the manifest.

    Raises:
        Refused: a file is too large.
    """
    listed = {name: {"sha256": sha256(content).hexdigest(), "size_bytes": len(content)}
              for name, content in files.items()}  # fmt: skip
    said = json.dumps({**manifest, "files": listed}, indent=2, sort_keys=True) + "\n"
    contents = {**files, MANIFEST: said.encode()}
    for name, content in contents.items():
        _check_size(name, len(content))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as bundle:
        for name in ENTRIES:
            entry = zipfile.ZipInfo(name, TIME)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            bundle.writestr(entry, contents[name])


def read(path: Path) -> Bundle:
    """A bundle's manifest and model; nothing is unpacked to the disk.

    Raises:
        Refused: it is no bundle, holds anything else than a bundle does, or a file in it is not
            the one that its manifest lists.
    """
    data = path.read_bytes()
    check_content(FILE, data)
    with zipfile.ZipFile(io.BytesIO(data)) as bundle:
        if bundle.namelist() != list(ENTRIES):
            raise _no_bundle(f"it holds {', '.join(bundle.namelist())}")
        try:
            contents = {name: bundle.read(name) for name in ENTRIES}
        except (zipfile.BadZipFile, OSError, RuntimeError) as error:
            raise _no_bundle(f"it cannot be read: {error}") from error
    try:
        manifest = json.loads(contents.pop(MANIFEST))
        listed = {name: one["sha256"] for name, one in manifest["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _no_bundle(f"its manifest lists no files: {error!r}") from error
    for name, content in contents.items():
        _check_size(name, len(content))
        if sha256(content).hexdigest() != listed.get(name):
            raise _no_bundle(f"{name} is not the file that its manifest lists")
    return Bundle(manifest, contents[MODEL])


def _check_size(name: str, size_bytes: int) -> None:
    if size_bytes > ENTRIES[name]:
        raise Refused(
            f"{name} of a bundle takes {size_bytes:,} bytes; {ENTRIES[name]:,} are the most.",
            "Take fewer rows along: --set check_rows=1.",
        )


def _no_bundle(why: str) -> Refused:
    return Refused(f"This is no bundle of ours: {why}.", "Make it again; it will not be opened.")
