"""Secrets of this installation: one file each, private, made when first needed."""

import os
import secrets
from pathlib import Path

from steelyard.domain.audit_digest import KEY_FILE
from steelyard.domain.pin import PIN_KEY_FILE
from steelyard.settings import Settings

KEY_BYTES = 32


def bucket_key(settings: Settings) -> bytes:
    """The key that draws units into buckets; the edge and the batch code share it."""
    return bytes.fromhex(_read_or_make(settings.secret_dir / "bucket.key"))


def serving_key(settings: Settings) -> bytes:
    """The key that the snapshot for replicas is signed with."""
    return bytes.fromhex(_read_or_make(settings.secret_dir / "serving.key"))


def pin_key(settings: Settings) -> bytes:
    """The operators' key, that pins are made with and the edge checks them by."""
    return bytes.fromhex(_read_or_make(settings.secret_dir / PIN_KEY_FILE))


def audit_key(settings: Settings) -> bytes:
    """The key of digests in predictions' records; without it nobody finds inputs by guessing."""
    return bytes.fromhex(_read_or_make(settings.secret_dir / KEY_FILE))


def ray_token(settings: Settings) -> Path:
    """The file with Ray's cluster token: whoever has it may run code on the cluster."""
    path = settings.secret_dir / "ray.token"
    _read_or_make(path)
    return path


def private_dir(path: Path) -> Path:
    """Make a folder that only this user may enter, or tighten an existing one of ours.

    Raises:
        PermissionError: it belongs to somebody else.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    return path


def _read_or_make(path: Path) -> str:
    """The file's text; if it is missing, one process of several wins and all read its value."""
    private_dir(path.parent)
    if not path.exists():
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        handle = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text(encoding="ascii").strip()
