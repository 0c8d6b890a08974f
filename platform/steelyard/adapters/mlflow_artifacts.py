"""A version's file out of MLflow's artefact store: one file, proved before anybody has it.

It is of a kind that holds no code, and its SHA-256 is checked on the very bytes that are handed
on. What the registry says of it (name, place, digest) may have been written by anybody who may
write there. Nothing here unpickles, and MLflow's own loaders are never called.
"""

import os
import re
import tempfile
from hashlib import sha256
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

# One file needs no progress bar, and standard error is for our own words.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from steelyard.domain.errors import NotFound, Refused, Unavailable, is_full
from steelyard.domain.model_files import check_content, check_name, check_size
from steelyard.domain.model_version import ModelVersion

SHA256 = re.compile(r"[0-9a-f]{64}")


class MlflowArtifacts:
    """The files of versions, as a client at a tracking URI finds them."""

    def __init__(self, client: MlflowClient, uri: str) -> None:
        self._client = client
        self._uri = uri

    def cached(self, version: ModelVersion, cache: Path) -> Path:
        """The file under ``cache``, named by its digest; it comes from the store when it must.

        Raises:
            NotFound, Refused, Unavailable: as ``proved``.
        """
        _check_said(version)
        target = cache / version.sha256 / f"model{Path(version.artifact).suffix}"
        if target.is_file() and _digest(target.read_bytes()) == version.sha256:
            return target
        content = self.proved(version)
        partial = target.with_suffix(f".{os.getpid()}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            partial.write_bytes(content)
            partial.rename(target)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise Unavailable(f"{version.name} cannot be kept in {cache}: {error}") from error
        return target

    def proved(self, version: ModelVersion) -> bytes:
        """The bytes that the registry has, if they are those that were registered.

        Raises:
            NotFound: they are gone.
            Refused: they are others, elsewhere, or of a kind that nothing here may load.
            Unavailable: the disk is full.
        """
        _check_said(version)
        with tempfile.TemporaryDirectory() as scratch:
            try:
                local = self._downloaded(version, Path(scratch))
            except (MlflowException, OSError) as error:
                if isinstance(error, OSError) and is_full(error):
                    raise Unavailable(f"{version.name} cannot be downloaded: {error}") from error
                raise NotFound(
                    f"The artefact of {version.name} is gone: {error}",
                    "Restore the registry's artefact store, or register the version again.",
                ) from error
            if local.is_symlink() or not local.is_file() or local.stat().st_nlink != 1:
                raise Refused(f"The artefact of {version.name} is not a plain file.")
            content = local.read_bytes()
        found = _digest(content)
        if found != version.sha256:
            raise Refused(
                f"The artefact of {version.name} was changed: its SHA-256 is {found}, registered "
                f"was {version.sha256}.",
                "It will not be loaded. Register a new version.",
            )
        check_content(version.artifact, content)
        return content

    def _downloaded(self, version: ModelVersion, scratch: Path) -> Path:
        """A copy of a version's file; its size is asked before a byte of it comes."""
        folder = self._location(version)
        listed = list_artifacts(artifact_uri=folder, tracking_uri=self._uri)
        sizes = {PurePosixPath(one.path).name: one.file_size for one in listed}
        if version.artifact not in sizes:
            raise FileNotFoundError(f"{folder} does not hold {version.artifact}")
        check_size(version.artifact, sizes[version.artifact] or 0)
        source = f"{folder}/{version.artifact}"
        return Path(download_artifacts(source, dst_path=str(scratch), tracking_uri=self._uri))

    def _location(self, version: ModelVersion) -> str:
        """Where a version's files are: below the artefacts of its run's experiment.

        MLflow's own look-up of a ``models:/m-…`` URI asks the process's default tracking URI,
        which need not be ours.

        Raises:
            Refused: they are said to be elsewhere, where nobody said that models are.
        """
        model_id = logged_model(version.source)
        place = version.source
        if model_id is not None:
            place = str(self._client.get_logged_model(model_id).artifact_location)
        if not version.run_id:
            raise Refused(f"{version.name} belongs to no run, so nothing says where it is from.")
        run = self._client.get_run(version.run_id)
        root = str(self._client.get_experiment(run.info.experiment_id).artifact_location)
        if not _within(place, root):
            raise Refused(
                f"{version.name} names {place} as the place of its files, outside of {root}.",
                "Register it with `steelyard train` or `steelyard compress`.",
            )
        return place


def logged_model(source: str) -> str | None:
    """The logged model that a source names; a server wants to be told it as well."""
    return source.removeprefix("models:/") if source.startswith("models:/m-") else None


def _within(place: str, root: str) -> bool:
    """Whether one URI lies below another.

    >>> _within("file:///home/artifacts/1/models/m-1", "/home/artifacts/1")
    True
    >>> _within("/home/artifacts/1/../../../etc", "/home/artifacts/1")
    False
    """
    inner, outer = (unquote(uri).removeprefix("file://").rstrip("/") for uri in (place, root))
    return inner.startswith(f"{outer}/") and ".." not in inner.split("/")


def _check_said(version: ModelVersion) -> None:
    """What the registry says is used as paths: a plain name of a known kind, a digest."""
    check_name(version.artifact)
    if not SHA256.fullmatch(version.sha256):
        raise Refused(f"The SHA-256 of {version.name} cannot be {version.sha256[:80]!r}.")


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()
