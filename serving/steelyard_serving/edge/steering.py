"""What models' policies say of headers and fields, as the steering map holds it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from steelyard.domain.header_rules import HeaderRule, rules_in
from steelyard.domain.serving_policy import ServingPolicy


@dataclass(frozen=True, slots=True)
class Steering:
    """What a line of the map says: two names, empty where there is none, and rules in order."""

    unit_header: str = ""
    unit_field: str = ""
    rules: tuple[HeaderRule, ...] = ()


def steering_entries(
    policies: Mapping[str, ServingPolicy], deployed: Collection[tuple[str, int]]
) -> dict[str, str]:
    """One line a model whose policy says something; a rule to what is not deployed is left out.

    >>> policy = ServingPolicy(unit_header="x-user", rules="x-team=b*:2, x-team=c:3")
    >>> steering_entries({"m": policy}, {("m", 2)})
    {'m': 'x-user&&~x-team:b:2|'}
    """
    lines = {
        model: "&".join((policy.unit_header, policy.unit_field, "".join(
            _rule(rule) for rule in rules_in(policy.rules) if (model, rule.version) in deployed
        )))
        for model, policy in sorted(policies.items())
    }  # fmt: skip
    return {model: line for model, line in lines.items() if line != "&&"}


def _rule(rule: HeaderRule) -> str:
    return f"{'~' if rule.begins else '='}{rule.header}:{rule.value}:{rule.version}|"


def steering_of(line: str) -> Steering:
    """What a line of the map says.

    >>> steering_of("x-user&&~x-team:b:2|").rules
    (HeaderRule(header='x-team', value='b', begins=True, version=2),)
    """
    header, field, rules = line.split("&")
    return Steering(header, field, tuple(map(_rule_of, rules.split("|")[:-1])))


def _rule_of(text: str) -> HeaderRule:
    header, value, version = text[1:].split(":")
    return HeaderRule(header, value, text.startswith("~"), int(version))
