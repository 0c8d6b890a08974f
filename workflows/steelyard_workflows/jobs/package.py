"""What travels to a cluster: the user's folder, and Steelyard itself.

The folder goes without what Git ignores, ``LEFT_OUT`` and ``SECRETS``. Steelyard goes as it is
imported here, from an installed wheel or from a working copy; Ray would install a wheel with pip,
from the network and with all it depends on, so it goes as plain packages with the distribution's
metadata beside them.

Ignore files are read by Ray 2.60's own internal reader, so that a folder means the same to both.
"""

import importlib
import logging
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from ray._private.runtime_env.packaging import _get_excludes, get_excludes_from_ignore_files

from steelyard.domain import figures
from steelyard.domain.errors import Refused
from steelyard_workflows.cluster import NOT_UPLOADED, SECRETS

LEFT_OUT = (*NOT_UPLOADED, "checkpoints/", ".*_cache/")
LIMIT_BYTES = 100 * 2**20
"""Of all files together: Ray's head keeps the package in memory."""
LIMIT_FILES = 20_000
PACKAGES = ("steelyard", "steelyard_workflows")
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first moment that a ZIP file knows: the same files make the same package."""

QUIET = logging.getLogger(__name__)
QUIET.setLevel(logging.WARNING)
Matches = Callable[[Path], bool]


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of a folder that are sent, sorted; ``secrets`` are some that stay."""

    path: Path
    files: tuple[Path, ...]
    size_bytes: int
    secrets: tuple[Path, ...] = ()

    def pack(self, archive: Path) -> str:
        """Write the files into a ZIP file; its SHA-256, which depends on nothing else."""
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
            for file in self.files:
                entry = zipfile.ZipInfo.from_file(self.path / file, file, strict_timestamps=False)
                entry.date_time, entry.compress_type = EPOCH, zipfile.ZIP_DEFLATED
                with (self.path / file).open("rb") as source, made.open(entry, "w") as target:
                    shutil.copyfileobj(source, target)
        return sha256(archive.read_bytes()).hexdigest()


def listed(path: Path) -> Folder:
    """What of a folder would be sent.

    Raises:
        Refused: it is too large; the message names its largest files.
    """
    files: list[tuple[int, Path]] = []
    secrets: list[Path] = []
    is_secret = _get_excludes(path, list(SECRETS))
    for file in _walk(path, [*_above(path), _get_excludes(path, list(LEFT_OUT))]):
        if is_secret(file):
            secrets.append(file.relative_to(path))
            continue
        files.append((file.stat().st_size, file.relative_to(path)))
        if len(files) > LIMIT_FILES:
            raise _too_large(path, files, f"more than {LIMIT_FILES:,} files")
    size = sum(one for one, _ in files)
    if size > LIMIT_BYTES:
        raise _too_large(path, files, f"{figures.size(size)} in {len(files)} files")
    return Folder(path, tuple(sorted(file for _, file in files)), size, tuple(sorted(secrets)))


def _walk(folder: Path, ignored: Sequence[Matches]) -> Iterator[Path]:
    """The files that are not ignored; links to folders are not followed."""
    ignored = [*ignored, *_ignores(folder)]
    for path in sorted(folder.iterdir()):
        if any(matches(path) for matches in ignored):
            continue
        if path.is_dir():
            if not path.is_symlink():
                yield from _walk(path, ignored)
        elif path.is_file():
            yield path


def _above(path: Path) -> list[Matches]:
    """What the ignore files above say, up to the top of the Git repository, if there is one."""
    found: list[Matches] = []
    if (path / ".git").exists():
        return found
    for parent in path.parents:
        found += _ignores(parent)
        if (parent / ".git").exists():
            return found
    return []


def _ignores(folder: Path) -> list[Matches]:
    # Ray tells its logger about every such file, at a level that is not shown here.
    found: list[Matches] = get_excludes_from_ignore_files(folder, True, QUIET)
    return found


def _too_large(path: Path, files: Sequence[tuple[int, Path]], found: str) -> Refused:
    largest = ", ".join(
        f"{file} ({figures.size(size)})" for size, file in sorted(files, reverse=True)[:5]
    )
    return Refused(
        f"The folder {path} is too large to be sent to a cluster: {found}, the limit is "
        f"{figures.size(LIMIT_BYTES)}. Its largest files: {largest}.",
        "Keep data where the cluster reads it, name what is not code in .gitignore, or send a "
        "folder of its own with --working-dir.",
    )


def own_packages(scratch: Path) -> list[str]:
    """Copies of the packages that a run imports, for Ray's ``py_modules``.

    Raises:
        Refused: Steelyard is not installed here, only found on the path.
    """
    try:
        ours = distribution("steelyard")
    except PackageNotFoundError as error:
        raise Refused(
            "Steelyard has no metadata here, so it cannot be sent to a cluster.",
            "Install it, as a wheel or with pip install -e.",
        ) from error
    made = []
    for name in PACKAGES:
        file = importlib.import_module(name).__file__
        assert file is not None
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        made.append(shutil.copytree(Path(file).parent, scratch / name, ignore=ignored))
    metadata = scratch / f"steelyard-{ours.version}.dist-info"
    metadata.mkdir()
    for part in ("METADATA", "entry_points.txt"):
        (metadata / part).write_text(ours.read_text(part) or "", encoding="utf-8")
    return [str(path) for path in (*made, metadata)]
