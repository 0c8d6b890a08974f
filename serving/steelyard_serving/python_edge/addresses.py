"""Which model a path names, which version if it pins one, and what is asked of it; pure."""

import re
from typing import NamedTuple

from steelyard_serving.edge.paths import ASKED, MODEL, VERSION
from steelyard_serving.python_edge.said import Said, refusal

SPLIT = re.compile(rf"/v2/models/{MODEL}{ASKED}|/models/{MODEL}/invocations|/invocations")
PINNED = re.compile(rf"/v2/models/{MODEL}/{VERSION}{ASKED}")
READS = ("GET", "HEAD")


class Address(NamedTuple):
    """``version`` is the pinned one's number as it was written; None: the route decides.

    ``asked`` is the last word of a version's own path; empty asks for its metadata. ``default``:
    the path names no model.
    """

    model: str
    asked: str
    version: str | None = None
    v2: bool = True
    default: bool = False

    @property
    def infers(self) -> bool:
        """Whether this is a prediction, and not something that is only read."""
        return self.asked in ("infer", "invocations")


def address(path: str, default_model: str) -> Address | None:
    """What a path means; None: nothing.

    >>> address("/v2/models/digits/versions/2/infer", "")
    Address(model='digits', asked='infer', version='2', v2=True, default=False)
    >>> address("/models/digits/invocations", "").asked
    'invocations'
    """
    words = path.split("/")
    if PINNED.fullmatch(path):
        return Address(words[3], words[6] if len(words) > 6 else "", words[5])
    if not SPLIT.fullmatch(path):
        return None
    if words[1] == "v2":
        return Address(words[3], words[4] if len(words) > 4 else "")
    if path == "/invocations":
        return Address(default_model or "-", "invocations", v2=False, default=True)
    return Address(words[2], "invocations", v2=False)


def wrong_method(method: str, address: Address) -> Said | None:
    """Predictions are asked for by POST, everything else by GET."""
    if address.infers and method != "POST":
        return refusal(405, "use POST", {"allow": "POST"})
    if not address.infers and method not in READS:
        return refusal(405, "use GET", {"allow": "GET"})
    return None
