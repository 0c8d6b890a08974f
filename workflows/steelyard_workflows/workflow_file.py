"""Reading a workflow from a YAML file or a recipe's name, with every fault at once.

The text is composed to nodes first, so that each fault carries the line it is about; then the
recipe's values are overridden by the file's and the whole is validated.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from steelyard.domain.errors import Fault, InvalidInput, NotFound
from steelyard_workflows.recipes import RECIPES
from steelyard_workflows.workflow import Workflow

Lines = dict[str, int]
KEY = re.compile(r"([a-z_]+\.[a-z_]+) ")


def load(source: str) -> Workflow:
    """The workflow in the YAML file ``source``, or the one of the recipe with that name.

    A recipe of the user's own is named ``module:function``.

    Raises:
        InvalidInput: the file is not a workflow; ``faults`` lists all that is wrong.
        NotFound: there is neither such a file nor such a recipe.
    """
    path = Path(source)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise NotFound(f"The workflow file {source} cannot be read: {reason}.") from error
        return parse(text, source)
    if source in RECIPES:
        return RECIPES[source]().workflow
    if ":" in source:
        from steelyard_workflows import recipe as recipes  # here: it brings torch

        return recipes.named(source).workflow.model_copy(update={"recipe": source})
    raise NotFound(
        f"{source!r} is neither a workflow file (.yaml) nor a recipe.",
        f"Recipes: {', '.join(sorted(RECIPES))}.",
    )


def parse(text: str, name: str = "workflow") -> Workflow:
    """The workflow that ``text`` describes; ``name`` appears in messages.

    Raises:
        InvalidInput: with every fault, its dotted place and its line.
    """
    values, lines, faults = _read(text)
    workflow = None
    if values is not None:
        base, fault = _recipe(values.get("recipe"), lines)
        faults += [fault] if fault else []
        # With an unknown recipe other faults are still worth telling.
        defaults = (base or next(iter(RECIPES.values()))().workflow).model_dump()
        try:
            workflow = Workflow.model_validate(_merge(defaults, values))
        except ValidationError as error:
            faults += [f for f in _faults(error, lines) if f.where != "recipe"]
    if faults or workflow is None:
        ordered = tuple(sorted(faults, key=lambda fault: (fault.line or 0, fault.where)))
        raise InvalidInput(
            f"{name} is not a usable workflow.", ordered, "See docs/reference/workflow.md."
        )
    return workflow


def dump(workflow: Workflow) -> str:
    """A workflow as the text of a complete file: every key with its value."""
    text: str = yaml.safe_dump(workflow.model_dump(mode="json"), sort_keys=False)
    return text


def _read(text: str) -> tuple[dict[str, Any] | None, Lines, list[Fault]]:
    """Values, the line of every dotted place, and the faults of the YAML itself."""
    try:
        aliases = [e for e in yaml.parse(text, Loader=yaml.SafeLoader) if _is_alias(e)]
        if aliases:
            mark = aliases[0].start_mark
            line = mark.line + 1 if mark else None
            return None, {}, [Fault("file", "uses an alias (*name); write the value out", line)]
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else None
        return None, {}, [Fault("file", f"is not YAML: {error.problem}", line)]
    except yaml.YAMLError as error:
        return None, {}, [Fault("file", f"is not YAML: {error}")]
    if not isinstance(node, yaml.MappingNode):
        found = "a list" if isinstance(node, yaml.SequenceNode) else "no mapping"
        line = node.start_mark.line + 1 if node else None
        what = f"must be a mapping of keys to values, found {found}"
        return None, {}, [Fault("file", what, line)]
    lines: Lines = {}
    faults = list(_walk(node, "", lines))
    try:
        return yaml.safe_load(text), lines, faults
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        return None, lines, [*faults, Fault("file", f"is not plain YAML: {error.problem}", line)]


def _is_alias(event: yaml.Event) -> bool:
    return isinstance(event, yaml.AliasEvent)


def _walk(node: yaml.MappingNode, prefix: str, lines: Lines) -> Iterator[Fault]:
    for key_node, value_node in node.value:
        place = f"{prefix}{key_node.value}"
        line = key_node.start_mark.line + 1
        if place in lines:
            yield Fault(place, f"is given twice, first on line {lines[place]}", line)
            continue
        lines[place] = line
        yield from _below(value_node, place, lines)


def _below(node: yaml.Node, place: str, lines: Lines) -> Iterator[Fault]:
    """The places inside a value; those of a list are counted from 0, as pydantic does."""
    if isinstance(node, yaml.MappingNode):
        yield from _walk(node, f"{place}.", lines)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            lines[f"{place}.{number}"] = item.start_mark.line + 1
            yield from _below(item, f"{place}.{number}", lines)


def _recipe(name: object, lines: Lines) -> tuple[Workflow | None, Fault | None]:
    """What a recipe runs with by default, or why it cannot be used."""
    if name is None:
        known = ", ".join(sorted(RECIPES))
        return None, Fault("recipe", f"is missing; one of: {known}", lines.get("recipe"))
    if not isinstance(name, str):
        return None, Fault("recipe", f"{name!r} is unknown; write its name", lines.get("recipe"))
    from steelyard_workflows import recipe as recipes  # here: it brings torch, which takes seconds

    try:
        return recipes.named(name).workflow, None
    except InvalidInput as error:
        return None, replace(error.faults[0], line=lines.get("recipe"))


def _merge(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(defaults)
    for key, value in values.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = _merge(below, value)
        else:
            merged[key] = value
    return merged


def _faults(error: ValidationError, lines: Lines) -> Iterator[Fault]:
    for detail in error.errors(include_url=False):
        place = ".".join(map(str, detail["loc"])) or "workflow"
        what = _words(detail["type"], detail["msg"], detail["input"])
        between = KEY.match(what) if place == "workflow" else None
        if between is not None:  # about several keys: the message begins with the one to change
            place, what = between[1], what[between.end() :]
        yield Fault(place, what, _line(place, lines))


def _words(kind: str, message: str, found: object) -> str:
    if kind == "extra_forbidden":
        return "is not a key of a workflow"
    if kind == "model_type":
        return f"must be a mapping of keys to values, found {found!r}"
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    return f"{message[:1].lower()}{message[1:]}, found {found!r}"


def _line(place: str, lines: Lines) -> int | None:
    """The line of a place, or of the nearest part of it that the file has."""
    while place not in lines and "." in place:
        place = place.rpartition(".")[0]
    return lines.get(place)
