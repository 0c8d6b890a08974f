"""Whose request it is: the unit (a user, a device) that stays with its version in a rollout.

The first that there is: the header ``x-unit-id``, the header that the model's policy names, the
field of the body that it names. HAProxy finds it in C (``steelyard_serving.edge.choice``); this is
the same rule for whoever asks where a unit lands without asking the edge.
"""

import re
from collections.abc import Sequence

from steelyard.domain.errors import Fault, InvalidInput

UNIT_HEADER = "x-unit-id"
LONGEST = 256
"""Bytes of a unit."""
SMALL_BYTES = 64 * 1024
"""A field is looked for in bodies of at most so many bytes."""
DEEPEST = 20
"""Objects and arrays within each other that HAProxy's JSON reader goes through."""
EXACT = 2**53 - 1
"""Whole numbers up to this one, and down to its negative, are exact in JSON's readers."""
CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})
OURS = ("x-steelyard-", "x-prediction-id")
HEADER = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}(?:\.[A-Za-z_][A-Za-z0-9_-]{0,63}){0,3}")
PLAIN = re.compile(r"[!-~](?:[ -~]{0,254}[!-~])?")
"""What a field may say: printable ASCII, because bodies write other characters in several ways."""
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
ESCAPE = re.compile(r"\\(?:u00([0-9a-fA-F]{2})|(.))")
ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"'}
WORDS = {"true": "1", "false": "0"}


def header_fault(name: str) -> str | None:
    """What is wrong with the name of a header that a choice may go by.

    >>> header_fault("x-user"), header_fault("cookie")
    (None, 'carries credentials')
    """
    name = name.lower()
    if not HEADER.fullmatch(name):
        return f"is no name of a header: letters, digits and -, at most 64, found {name!r}"
    if name in CREDENTIALS:
        return "carries credentials"
    return "is the edge's own" if name.startswith(OURS) else None


def field_fault(path: str) -> str | None:
    """What is wrong with the path of a field, such as ``parameters.user``."""
    if FIELD.fullmatch(path):
        return None
    return f"is up to four names of letters, digits, _ and -, with points between, found {path!r}"


def unit_of(
    headers: Sequence[tuple[str, str]], body: bytes | None, header: str = "", field: str = ""
) -> str | None:
    """The unit of a request; None: it has none, and its own id takes the place.

    ``headers`` are in order, names in lower case; of several of one name the last counts. ``body``
    is valid JSON, or None when it is compressed or none.

    >>> unit_of([("x-user", "ada")], None, header="x-user")
    'ada'

    Raises:
        InvalidInput: a header holds a longer one than a unit may be.
    """
    given = dict(headers)
    said = given.get(UNIT_HEADER) or (given.get(header) if header else "")
    if said:
        if len(said) > LONGEST:
            fault = Fault("unit", f"at most {LONGEST} bytes")
            raise InvalidInput(str(fault), (fault,))
        return said
    if not field or body is None or len(body) > SMALL_BYTES:
        return None
    found = _value(body.decode("latin-1"), field.split("."))
    return found if found is not None and PLAIN.fullmatch(found) else None


def _value(text: str, path: Sequence[str]) -> str | None:
    """What stands at a path, as HAProxy's reader has it: the first of each name on the way."""
    depth, reached = 0, 0
    tokens = TOKEN.findall(text)
    for number, token in enumerate(tokens):
        if token in "{[":
            depth += 1
            if depth > DEEPEST:
                return None
        elif token in "}]":
            depth -= 1
            if depth == 0:
                return None
        elif tokens[number + 1 : number + 2] == [":"]:
            if depth == reached:
                return None
            if depth == reached + 1 and token == f'"{path[reached]}"':
                reached += 1
                if reached == len(path):
                    return _scalar(tokens[number + 2])
    return None


def _scalar(token: str) -> str | None:
    """A string with its escapes resolved, or the whole part of a number."""
    if token.startswith('"'):
        return _unescaped(token[1:-1])
    number = NUMBER.match(token)
    if number is None:
        return WORDS.get(token)
    value = float(number.group())
    return str(int(value)) if abs(value) <= EXACT else None


def _unescaped(text: str) -> str | None:
    """None for what HAProxy does not resolve: an escaped ``/``, characters above 255."""
    pieces = ESCAPE.findall(text)
    if any(not code and mark not in ESCAPED for code, mark in pieces):
        return None
    return ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else ESCAPED[m[2]], text)
