"""The version that answers a request, and what its replica is told of why; pure.

The rules are those of ``steelyard.domain``: ``pin``, ``unit_key``, ``header_rules``, ``traffic``.
"""

from dataclasses import dataclass, replace

from steelyard.domain.errors import InvalidInput
from steelyard.domain.header_rules import version_by
from steelyard.domain.pin import pinned_version
from steelyard.domain.traffic import Route, bucket, choose
from steelyard.domain.unit_key import LONGEST, unit_of
from steelyard_serving.edge.steering import Steering
from steelyard_serving.python_edge.addresses import Address
from steelyard_serving.python_edge.said import Asked, Said, refusal, scoring_refusal
from steelyard_serving.python_edge.table import Table


@dataclass(frozen=True, slots=True)
class Choice:
    """``unit`` is whose request it is, or its id where nobody says; ``position`` its bucket."""

    model: str
    version: int
    arm: str
    unit: str
    said: str | None = None
    route: Route | None = None
    position: int = 0

    @property
    def told(self) -> dict[str, str]:
        """The headers that say so to the replica."""
        told = {"x-steelyard-arm": self.arm}
        if self.said is not None:
            told["x-steelyard-unit"] = self.said
        if self.route is not None:
            told["x-steelyard-bucket"] = str(self.position)
            told["x-steelyard-generation"] = str(self.route.generation)
            told["x-steelyard-lineage"] = self.route.lineage
        return told


def numbered(asked: Asked, address: Address, key: bytes) -> str | Said | None:
    """The version that the path or an operator's pin asks for; ``key`` is the operators'.

    A pin that is not valid is refused wherever it is shown.
    """
    if asked.pin is None:
        return address.version
    pinned = pinned_version(asked.pin, address.model, key, asked.arrived_us // 1_000_000)
    if pinned is None:
        return refusal(403, "this pin is not valid, or not any more")
    return address.version or str(pinned)


def unknown(address: Address, number: str | None, table: Table) -> Said | None:
    """Why there is nobody to ask: the model is not routed, or the version not deployed."""
    if address.version is not None or table.route(address.model) is not None:
        if number is None or table.is_deployed(address.model, number):
            return None
        return refusal(404, f"{address.model}/{number} is not deployed")
    if (address.model, address.asked, address.v2) == ("stats", "", True):
        return refusal(501, "statistics are told of one model")
    if address.v2:
        return refusal(404, f"unknown model {address.model}")
    why = f"unknown model {address.model}"
    if address.default:
        why = "no default model is served; ask /models/MODEL/invocations"
    return scoring_refusal(404, "RESOURCE_DOES_NOT_EXIST", why)


def said_unit(asked: Asked, body: bytes, steering: Steering, fields: str) -> str | Said | None:
    """Whose request it is, as it says itself; ``fields`` may be looked for in bodies."""
    field = steering.unit_field if steering.unit_field in fields.split(",") else ""
    plain = None if "content-encoding" in asked.headers else body
    try:
        return unit_of(asked.lines, plain, steering.unit_header, field)
    except InvalidInput:
        return refusal(400, f"the unit: at most {LONGEST} bytes")


def chosen(
    asked: Asked, address: Address, number: str | None, unit: str | None, table: Table, key: bytes
) -> Choice:
    """The arm and version of a request that somebody can answer; ``key`` draws buckets.

    What is only read is of the stable version, so that it is the same at each look.
    """
    model, route = address.model, table.route(address.model)
    drawn = asked.prediction_id if unit is None else _text(unit)
    position = 0 if route is None else bucket(key, route.lineage, drawn)
    arm, version = "pinned", None if number is None else int(number)
    if version is None and address.infers:
        rules = table.steering(model).rules
        version = version_by(rules, asked.lines, {rule.version for rule in rules})
    if version is None:
        assert route is not None, "a request without a version's number has a route"
        arm, version = choose(route, position) if address.infers else ("stable", route.stable)
    return Choice(model, version, arm, drawn, unit, route, position)


def in_its_place(choice: Choice, arm: str) -> Choice:
    """Stable asked in the place of a canary; ``arm`` says as what."""
    assert choice.route is not None, "a canary has a route"
    return replace(choice, version=choice.route.stable, arm=arm)


def _text(header: str) -> str:
    """A header's bytes, which are UTF-8 or anything, as the text that ``bucket`` makes them of."""
    return header.encode("latin-1").decode("utf-8", "surrogateescape")
