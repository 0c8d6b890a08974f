"""The API's bearer token: one private file, made when first needed."""

import os
import secrets
from pathlib import Path
from typing import Literal

from steelyard.settings import Settings

Standing = Literal["right", "missing", "wrong"]
TOKEN_BYTES = 32


def api_token(settings: Settings) -> str:
    """The token that writing requests must carry; whoever reads the file may write.

    The draft is linked into place, so of several processes one wins and all read its value.

    Raises:
        OSError: the file can be neither read nor made.
    """
    path = settings.secret_dir / "api.token"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        _make(path)
    return path.read_text(encoding="ascii").strip()


def standing(authorization: str | None, token: str) -> Standing:
    """Judge an Authorization header; the comparison takes the same time for every token.

    >>> standing("Bearer abc", "abc"), standing("Bearer abd", "abc"), standing(None, "abc")
    ('right', 'wrong', 'missing')
    >>> standing("Basic abc", "abc")
    'missing'
    """
    scheme, _, given = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not given.strip():
        return "missing"
    same = secrets.compare_digest(given.strip().encode(), token.encode())
    return "right" if same and token else "wrong"


def _make(path: Path) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(TOKEN_BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was faster; its token counts
    finally:
        draft.unlink()
