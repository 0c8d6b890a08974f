"""Rules that send requests with a certain header to a certain version: a test, a team, a demo.

Written ``x-canary=always:3, x-team=beta*:4``: the header, the whole value or how it begins, the
version. The first that holds and whose version is deployed decides. What it decided is pinned: it
says nothing of either arm of a rollout.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from steelyard.domain.unit_key import header_fault

MOST = 8
RULE = re.compile(r"([^=\s]+)=([A-Za-z0-9._/+@~-]{1,64})(\*?):([1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class HeaderRule:
    """``header`` in lower case; ``begins``: the value need only begin with ``value``."""

    header: str
    value: str
    begins: bool
    version: int

    def holds(self, name: str, value: str) -> bool:
        """Whether a header of a request is what the rule asks for; capitals in values matter."""
        fits = value.startswith(self.value) if self.begins else value == self.value
        return name == self.header and fits

    def __str__(self) -> str:
        return f"{self.header}={self.value}{'*' if self.begins else ''}:{self.version}"


def rules_in(text: str) -> tuple[HeaderRule, ...]:
    """The rules of a text that has no faults.

    >>> rules_in("X-Team=beta*:4")
    (HeaderRule(header='x-team', value='beta', begins=True, version=4),)
    """
    found = (RULE.fullmatch(part) for part in _parts(text))
    return tuple(HeaderRule(m[1].lower(), m[2], bool(m[3]), int(m[4])) for m in found if m)


def rules_faults(text: str) -> list[str]:
    """What is wrong with a text of rules, each rule by itself."""
    parts = _parts(text)
    faults = [f"has at most {MOST} rules, found {len(parts)}"] if len(parts) > MOST else []
    for part in parts:
        match = RULE.fullmatch(part)
        if match is None:
            faults.append(f"is HEADER=VALUE:VERSION, with VALUE* for how it begins, found {part!r}")
        elif why := header_fault(match[1]):
            faults.append(f"{match[1]} {why}")
    return faults


def written(rules: Sequence[HeaderRule]) -> str:
    """The text of rules."""
    return ", ".join(map(str, rules))


def version_by(
    rules: Sequence[HeaderRule],
    headers: Sequence[tuple[str, str]],
    deployed: Collection[int],
) -> int | None:
    """The version that the first rule that holds names; None: no rule decides.

    ``headers`` have names in lower case; of several of one name each may hold.

    >>> version_by(rules_in("x-team=beta*:4"), [("x-team", "beta-2")], {1, 4})
    4
    """
    for rule in rules:
        if rule.version in deployed and any(rule.holds(*header) for header in headers):
            return rule.version
    return None


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
