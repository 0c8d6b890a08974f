"""TLS towards this platform's own edge."""

import re
import ssl
from pathlib import Path

from steelyard.domain.errors import Unavailable

_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def pinned(certificate: Path) -> ssl.SSLContext:
    """Trusts the first certificate of a PEM file and no other, under whatever name it is asked.

    Raises:
        Unavailable: the file cannot be read, or holds no certificate.
    """
    try:
        first = _CERTIFICATE.search(certificate.read_text(encoding="ascii", errors="replace"))
        if first is None:
            raise ValueError("it holds no certificate")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=first[0])
    except (OSError, ValueError) as error:
        raise Unavailable(f"The edge's certificate {certificate} is not usable: {error}") from error
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def anybody() -> ssl.SSLContext:
    """Trusts whoever answers: for asking whether a process lives, which no secret depends on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
