"""What may be wrong with a request. Every fault names its field, as ``inputs[0].shape: …``."""

import reprlib

from steelyard.domain.errors import Fault, InvalidInput

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 57


class Unreadable(InvalidInput):
    """The body is not in the form that it claims to be in, so nothing in it was looked at."""


class TooLarge(InvalidInput):
    """The body is larger than the limit, as it came or decompressed."""


class UnknownMediaType(InvalidInput):
    """The body is in a form or a coding that is not read here."""


def invalid(where: str, what: str) -> InvalidInput:
    """The fault of one field."""
    fault = Fault(where, what)
    return InvalidInput(str(fault), (fault,))


def unreadable(where: str, what: str) -> Unreadable:
    """The fault of a body as a whole."""
    fault = Fault(where, what)
    return Unreadable(str(fault), (fault,))


def brief(value: object) -> str:
    """What was found, in a few words however long or deep it is."""
    text = _SHORT.repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
