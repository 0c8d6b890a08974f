"""TLS at the edge: whether the certificate can be used, and how HAProxy is told of it."""

import ssl
from pathlib import Path

from steelyard.domain.errors import Fault, InvalidInput
from steelyard.settings import Settings


def bind_options(settings: Settings) -> str:
    """What the public address is bound with; empty without a certificate."""
    if not settings.tls_certificate:
        return ""
    return f" ssl crt '{settings.tls_certificate}' ssl-min-ver TLSv1.2 alpn h2,http/1.1"


def check_certificate(settings: Settings) -> None:
    """Refuse to start with a certificate that no client could be answered with.

    Raises:
        InvalidInput: the file is not there, is not a certificate with its key, or its path cannot
            stand in the edge's configuration.
    """
    path = settings.tls_certificate
    if not path:
        return
    what = ""
    if "'" in path or not path.isprintable():
        what = f"{path!r} has a character that the edge's configuration cannot have"
    elif not Path(path).is_file():
        what = f"there is no file {path}"
    else:
        try:
            # An encrypted key has no password here: asking for one would block the start.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, password="")
        except (OSError, ValueError) as error:
            what = f"{path} is no certificate with its unencrypted key: {error}"
    if what:
        fault = Fault("tls_certificate", what)
        raise InvalidInput(str(fault), (fault,), "See docs/how-to/keys-and-limits.md.")
