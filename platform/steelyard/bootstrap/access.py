"""What an operator, or a client on this machine, proves and trusts."""

from pathlib import Path
from typing import TYPE_CHECKING

from steelyard.domain.errors import Refused
from steelyard.domain.pin import PIN_KEY_FILE
from steelyard.settings import Settings

if TYPE_CHECKING:
    import ssl


def check_operator(settings: Settings) -> None:
    """Refuse whoever cannot read the key that the API asks of those who write.

    Raises:
        Refused: there is no key, or this user may not read it.
    """
    path = settings.secret_dir / "api.token"
    try:
        key = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise Refused(
            f"Only an operator may do this: the key {path} cannot be read ({error.strerror}).",
            "`steelyard up` makes it; whoever may read it is an operator.",
        ) from error
    if not key:
        raise Refused(f"Only an operator may do this: the key {path} is empty.")


def pin_key(settings: Settings) -> bytes:
    """The operators' key that pins are made with.

    Raises:
        Refused: there is none yet, or this user may not read it.
    """
    path = settings.secret_dir / PIN_KEY_FILE
    try:
        return bytes.fromhex(path.read_text(encoding="ascii"))
    except OSError as error:
        raise Refused(
            f"Only an operator may pin: the key {path} cannot be read ({error.strerror}).",
            "`steelyard up` makes it; whoever may read it is an operator.",
        ) from error


def edge_trust(settings: Settings) -> "ssl.SSLContext | bool":
    """What a client on this machine verifies the edge with: its own certificate, if it has one.

    Raises:
        Unavailable: the certificate cannot be read.
    """
    from steelyard.adapters.tls import pinned

    return pinned(Path(settings.tls_certificate)) if settings.tls_certificate else True
