"""Which files may be versions: kinds that hold numbers and no code, told by their bytes. Pure.

What a file is called decides which loader gets it, so its bytes must be what its name says. A
pickle under any name is refused: to load one is to run it.
"""

import ast
import io
import re
import struct
import zipfile
from collections.abc import Callable, Mapping

from steelyard.domain.errors import Refused
from steelyard.domain.onnx_file import check_onnx
from steelyard.domain.safetensors_file import check_safetensors

LARGEST_FILE = 2 * 2**30
"""ONNX in one file ends at 2 GiB (protobuf)."""
MOST_MEMBERS, LARGEST_DIRECTORY = 64, 2**16
END = struct.Struct("<4s4H2LH")
"""A ZIP's last record: signature, disks, files here and in all, directory's bytes and place."""
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MEMBERS = frozenset({".onnx", ".json", ".npy", ".py", ".md", ".txt"})
"""What a bundle for a device may hold. Its program runs there, when its owner runs it."""


def check_name(artifact: str) -> str:
    """The suffix of a version's file, which says what it is.

    Raises:
        Refused: it is no plain file name, or of a kind that is not registered.
    """
    suffix = _suffix(artifact)
    if not PLAIN_NAME.fullmatch(artifact):
        raise Refused(f"{artifact!r} is no plain file name: a version is one file of its folder.")
    if suffix not in KINDS:
        raise Refused(
            f"{artifact} is of no kind that is registered or fetched: {', '.join(KINDS)} are.",
            "Other kinds may run code when they are loaded; pickles (.pt, .pt2, .pkl, .joblib) do.",
        )
    return suffix


def _suffix(name: str) -> str:
    _, dot, last = name.rpartition(".")
    return dot + last


def check_size(artifact: str, size_bytes: int) -> None:
    """Refuse what does not fit into one file.

    Raises:
        Refused: it is larger than 2 GiB.
    """
    if size_bytes > LARGEST_FILE:
        raise Refused(
            f"{artifact} has {size_bytes:,} bytes; a version has {LARGEST_FILE:,} at most."
        )


def check_content(artifact: str, data: bytes) -> None:
    """Refuse bytes that are not what the file's name says, or that reach outside of it.

    Raises:
        Refused: names the file and what was found in it.
    """
    check = KINDS[check_name(artifact)]
    check_size(artifact, len(data))
    try:
        check(data)
    except Refused as refused:
        raise Refused(f"{artifact}: {refused.message}", refused.hint) from None


def check_bundle(data: bytes) -> None:
    """Refuse a ZIP file that is not what a device takes with it.

    Nothing in a bundle is compressed, so that none unpacks to more than it was.

    Raises:
        Refused: too many files, a path, a link, a packed file, a kind of file that does not
            belong, or one that is not what its name says.
    """
    _check_directory(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                _check_member(member)
                inner = INNER.get(_suffix(member.filename))
                if inner is not None:
                    inner(archive.read(member))
    # RuntimeError: an entry is encrypted, or the ZIP is of a later kind.
    except (zipfile.BadZipFile, RuntimeError, ValueError, OSError, EOFError) as error:
        raise Refused(f"It is not a ZIP file that can be read: {error}.") from None


def _check_directory(data: bytes) -> None:
    """Before it is parsed: few files, nothing after them, no 64-bit records that say otherwise."""
    mark, _, _, _, members, size, _, comment = END.unpack((b"\0" * END.size + data)[-END.size :])
    if mark != b"PK\5\6" or comment or data[-END.size - 20 : -END.size][:4] == b"PK\6\7":
        raise Refused("It is not a ZIP file of ours: it does not end like one.")
    if members > MOST_MEMBERS or size > LARGEST_DIRECTORY:
        raise Refused(f"It holds {members} files, listed in {size:,} bytes.")


def _check_member(member: zipfile.ZipInfo) -> None:
    name, suffix = member.filename, _suffix(member.filename)
    if member.external_attr >> 28 not in (0, 0o10) or suffix not in MEMBERS:
        raise Refused(f"It holds {name!r}, which does not belong into a bundle.")
    if not PLAIN_NAME.fullmatch(name):
        raise Refused(f"It holds {name!r}, which leads elsewhere.")
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise Refused(f"It unpacks {name!r} from {member.compress_size:,} to "
                      f"{member.file_size:,} bytes; nothing in a bundle is packed.")  # fmt: skip


def check_array(data: bytes) -> None:
    """Refuse a numpy file of Python objects: they are pickled.

    Raises:
        Refused: it is no numpy file, or its values are objects.
    """
    wide = data[6:7] in (b"\x02", b"\x03")
    start = 12 if wide else 10
    length = int.from_bytes(data[8:start], "little")
    if data[:6] != b"\x93NUMPY" or length > len(data) - start:
        raise Refused("It holds a .npy file that is none.")
    try:
        found = ast.literal_eval(data[start : start + length].decode("latin1").strip())["descr"]
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise Refused(f"It holds a .npy file without a header: {error}.") from None
    if "O" in str(found):
        raise Refused("It holds a .npy file of Python objects, which are pickled.")


def _flatbuffer(kind: str, mark: bytes) -> Callable[[bytes], None]:
    """A check for the mark that a flatbuffers file of this kind has after its first offset."""

    def check(data: bytes) -> None:
        if data[4:8] != mark:
            raise Refused(f"It is not {kind} file: its mark is {data[4:8]!r}, not {mark!r}.")

    return check


KINDS: Mapping[str, Callable[[bytes], None]] = {
    ".onnx": check_onnx,
    ".safetensors": check_safetensors,
    ".zip": check_bundle,
    ".pte": _flatbuffer("an ExecuTorch", b"ET12"),
    ".tflite": _flatbuffer("a LiteRT", b"TFL3"),
}
"""Suffix -> the check of its bytes. The only kinds that enter the registry or leave it."""
INNER = {".onnx": check_onnx, ".npy": check_array}
