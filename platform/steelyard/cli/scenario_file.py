"""Reading a scenario from a YAML file or from those that ship, with every fault at once.

Scalars are kept as the text that was written, so ``0.1`` is a tenth and no float.
"""

import inspect
from collections.abc import Iterable, Mapping
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    create_model,
    model_validator,
)

from steelyard.domain.calculations import CALCULATIONS
from steelyard.domain.errors import Fault, InvalidInput, NotFound
from steelyard.domain.scenario import TOLERANCE, Published, Scenario

SHIPPED = files("steelyard") / "scenarios"
PAGE = "See docs/reference/scenarios.md."
SHAPES = "must be a number, {from: A, to: B}, {at_least: A} or {at_most: B}"
ENDS = ({"from", "to"}, {"at_least"}, {"at_most"})

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class PublishedValue(BaseModel):
    """A published figure: a number, which is both ends, or a range."""

    model_config = ConfigDict(extra="forbid")
    low: Fraction | None = None
    high: Fraction | None = None

    @model_validator(mode="before")
    @classmethod
    def _ends(cls, written: object) -> dict[str, object]:
        if isinstance(written, str):
            return {"low": written, "high": written}
        if not isinstance(written, dict) or set(written) not in ENDS:
            raise ValueError(SHAPES)
        return {
            "low": written.get("from", written.get("at_least")),
            "high": written.get("to", written.get("at_most")),
        }


class ScenarioFile(BaseModel):
    """The keys of a scenario file; ``inputs`` are checked by the calculation's signature."""

    model_config = ConfigDict(extra="forbid")
    claim: Text
    calculation: Text
    inputs: dict[str, Any]
    published: dict[str, PublishedValue] = Field(default_factory=dict)
    source: str = ""
    because: str = ""
    tolerance: Annotated[Fraction, Field(ge=0, lt=1)] = TOLERANCE


def shipped() -> list[str]:
    """The names of the scenarios that come with the platform."""
    found = (item.name for item in SHIPPED.iterdir())
    return sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml"))


def load(source: str) -> Scenario:
    """The shipped scenario with that name, or the one in that file.

    Raises:
        NotFound: there is neither.
        InvalidInput: the file is no usable scenario; ``faults`` lists all that is wrong.
    """
    if source in shipped():
        return parse((SHIPPED / f"{source}.yaml").read_text("utf-8"), source)
    path = Path(source)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        raise NotFound(
            f"{source!r} is neither a scenario nor a file (.yaml).",
            f"Scenarios: {', '.join(shipped())}.",
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise NotFound(f"The scenario file {source} cannot be read: {reason}.") from error
    return parse(text, path.stem)


def parse(text: str, name: str) -> Scenario:
    """The scenario that ``text`` describes.

    Raises:
        InvalidInput: with every fault and its place.
    """
    values = _values(text, name)
    faults: list[Fault] = []
    try:
        file = ScenarioFile.model_validate(values)
    except ValidationError as error:
        faults += _faults(error)
    inputs, more = _inputs(values.get("calculation"), values.get("inputs"))
    if faults or more:
        raise InvalidInput(f"{name} is not a usable scenario.", (*faults, *more), PAGE)
    published = {key: Published(v.low, v.high) for key, v in file.published.items()}
    return Scenario(name, file.claim, file.calculation, inputs, published, file.source,
                    file.because, file.tolerance)  # fmt: skip


def _values(text: str, name: str) -> dict[str, Any]:
    """What the YAML says. An alias is refused: a few of them can stand for billions of values."""
    try:
        if any(isinstance(e, yaml.AliasEvent) for e in yaml.parse(text, Loader=yaml.BaseLoader)):
            raise InvalidInput(f"{name} uses an alias (*name).", hint="Write the value out.")
        values = yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise InvalidInput(f"{name} is not YAML: {error}", hint=PAGE) from error
    if not isinstance(values, dict):
        raise InvalidInput(f"{name} is not a mapping of keys to values.", hint=PAGE)
    return values


def _inputs(calculation: object, written: object) -> tuple[dict[str, Any], Iterable[Fault]]:
    """The inputs in the types of the calculation, by a model made from its signature."""
    if not isinstance(calculation, str) or not isinstance(written, dict):
        return {}, ()
    if calculation not in CALCULATIONS:
        known = ", ".join(sorted(CALCULATIONS))
        return {}, [Fault("calculation", f"{calculation!r} is unknown; one of: {known}")]
    parameters = inspect.signature(CALCULATIONS[calculation]).parameters
    fields: Mapping[str, Any] = {
        name: (p.annotation, ... if p.default is p.empty else p.default)
        for name, p in parameters.items()
    }
    model = create_model("Inputs", __config__=ConfigDict(extra="forbid"), **fields)
    try:
        found = model.model_validate(written)
    except ValidationError as error:
        return {}, _faults(error, ("inputs",))
    return {name: getattr(found, name) for name in parameters}, ()


def _faults(error: ValidationError, prefix: tuple[str, ...] = ()) -> list[Fault]:
    found = []
    for detail in error.errors(include_url=False, include_context=False):
        place = ".".join(map(str, (*prefix, *detail["loc"]))) or "file"
        what = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            what = "is not known here"
        elif detail["type"] == "missing":
            what = "is missing"
        elif detail["type"] != "value_error":
            what = f"{what[:1].lower()}{what[1:]}, found {detail['input']!r}"
        found.append(Fault(place, what))
    return found
