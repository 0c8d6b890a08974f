"""What torch and numpy have saved, read without running anything of it.

Both save ZIP files whose members are not packed, and both pickle what is no tensor or array. A
file may come from a registry or a disk that others write to, so what is not plain is refused;
torch's own advice, to trust the file then, is not followed.
"""

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from steelyard.domain.errors import Refused

HINT = "It was not opened, because to load it is to run it. Restore it from where it was made."


def state(path: Path) -> dict[str, Any]:
    """The dictionary of tensors and plain values in a file of ``torch.save``, on the CPU.

    Raises:
        OSError: there is no such file.
        Refused: it is no ZIP file as torch writes it, or holds anything else.
    """
    _check_unpacked(path)
    try:
        found: Any = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # whatever a file leads to that is no plain state
        named = re.search(r"GLOBAL (\S+)", str(error))
        why = f"it holds {named[1]}" if named else f"{type(error).__name__}"
        raise Refused(f"{path.name} is no plain state: {why}.", HINT) from error
    if not isinstance(found, dict):
        raise Refused(f"{path.name} holds a {type(found).__name__}, not a state.")
    return found


def arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays in a file of ``numpy.savez``, by name.

    Raises:
        OSError: there is no such file.
        Refused: it is no such file, or one of them holds Python objects, which are pickled.
    """
    _check_unpacked(path)
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise Refused(f"{path.name} does not hold plain arrays: {error}.", HINT) from error


def _check_unpacked(path: Path) -> None:
    """A small file that becomes a large one fills the memory of whoever opens it."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, RuntimeError) as error:  # or of a later kind
        found = f"{path.name} is no ZIP file as torch and numpy write it: {error}."
        raise Refused(found, HINT) from error
    unpacked = sum(member.file_size for member in members)
    packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    size = path.stat().st_size
    if packed or unpacked > size:
        raise Refused(
            f"{path.name} unpacks from {size:,} to {unpacked:,} bytes; what torch and numpy write "
            "is not packed.",
            HINT,
        )
