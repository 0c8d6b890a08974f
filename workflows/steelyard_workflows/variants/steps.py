"""From ``pruned_structured+int8_static`` and its settings to steps: all faults at once."""

from collections.abc import Mapping
from dataclasses import dataclass

from steelyard.domain.errors import Fault, InvalidInput
from steelyard_workflows.variants import (
    bf16,
    distilled,
    executorch,
    executorch_int8,
    fp16,
    int4_weight_only,
    int8_dynamic,
    int8_static,
    layer_drop,
    onnx_bundle,
    ov_int8,
    pruned_structured,
    pruned_unstructured,
    safetensors,
    tflite,
)
from steelyard_workflows.variants.kind import Kind, Option, Options, Value

KINDS: Mapping[str, Kind] = {
    module.KIND.name: module.KIND
    for module in (
        int8_static, int8_dynamic, ov_int8, int4_weight_only, fp16, bf16, pruned_structured,
        pruned_unstructured, layer_drop, distilled, onnx_bundle, executorch,
        executorch_int8, tflite, safetensors,
    )
}  # fmt: skip
PLACES = ("network", "file", "package")
"""In which order steps are: what changes the network, its file, and what goes around that."""


@dataclass(frozen=True, slots=True)
class Step:
    """A kind with all its options."""

    kind: Kind
    options: Options


def kind_named(name: str) -> Kind:
    """The kind with this name.

    Raises:
        InvalidInput: there is none; the message lists those that exist.
    """
    try:
        return KINDS[name]
    except KeyError:
        known = ", ".join(sorted(KINDS))
        what = f"{name!r} is not a kind of variant; there is: {known}; or several, joined by +"
        fault = Fault("variant", what)
        raise InvalidInput(str(fault), (fault,), f"Use --variant {next(iter(KINDS))}.") from None


def steps_of(name: str, given: Mapping[str, Value]) -> tuple[Step, ...]:
    """The steps of ``KIND[+KIND]`` in their order; ``given`` are values by option.

    An option is named ``epochs``, or ``pruned_structured.epochs`` where several steps have one.

    Raises:
        InvalidInput: an unknown kind or option, a value of another type or out of its range, or
            kinds that cannot follow each other.
    """
    kinds = [kind_named(part) for part in name.split("+")]
    _check_order(kinds)
    faults: list[Fault] = []
    chosen: dict[str, dict[str, Value]] = {kind.name: {} for kind in kinds}
    for key, value in given.items():
        found = _owner(key, kinds)
        if isinstance(found, str):
            faults.append(Fault(key, found))
            continue
        kind, option = found
        try:
            chosen[kind.name][option] = checked(kind.options[option], value)
        except ValueError as error:
            faults.append(Fault(key, str(error)))
    if faults:
        hint = "See docs/reference/variants.md."
        raise InvalidInput(f"The settings of {name} are not usable.", tuple(faults), hint)
    return tuple(
        Step(kind, {n: chosen[kind.name].get(n, o.default) for n, o in kind.options.items()})
        for kind in kinds
    )


def _check_order(kinds: list[Kind]) -> None:
    names = [kind.name for kind in kinds]
    files = [kind for kind in kinds if kind.step == "file"]
    places = [PLACES.index(kind.step) for kind in kinds]
    what = ""
    if len(set(names)) < len(names):
        what = "names a kind twice"
    elif len(files) > 1:
        what = f"writes two files: {files[0].name} and {files[1].name}; use one"
    elif places != sorted(places):
        early = next(n for n, place in enumerate(places) if place > min(places[n:]))
        what = f"{names[early]} writes the file: it comes last"
    elif files and kinds[-1].step == "package" and files[0].suffix != ".onnx":
        what = f"{names[-1]} takes ONNX, {files[0].name} leaves {files[0].suffix}"
    if what:
        fault = Fault("variant", f"{'+'.join(names)} {what}")
        raise InvalidInput(str(fault), (fault,), "For example pruned_structured+int8_static.")


def _owner(key: str, kinds: list[Kind]) -> tuple[Kind, str] | str:
    """The step that an option belongs to, or what is wrong with its name."""
    prefix, dot, option = key.rpartition(".")
    having = [k for k in kinds if option in k.options and (not dot or k.name == prefix)]
    if len(having) == 1:
        return having[0], option
    if having:
        return f"which one: {' or '.join(f'{kind.name}.{option}' for kind in having)}?"
    known = ", ".join(f"{kind.name}.{name}" for kind in kinds for name in kind.options)
    return f"is not an option; there is: {known or 'none'}"


def checked(option: Option, value: Value) -> Value:
    """The value as the option's type.

    Raises:
        ValueError: it is of another type or out of the range.
    """
    wanted = type(option.default)
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        raise ValueError(f"is {wanted.__name__}, found {value!r}")
    if option.choices and value not in option.choices:
        raise ValueError(f"is one of {', '.join(map(str, option.choices))}, found {value!r}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = option.low, option.high
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            raise ValueError(f"goes from {low:g} to {high:g}, found {value!r}")
    return value


def read_value(option: Option, text: str) -> Value:
    """A value as it is typed, in the option's type; text that is none stays text."""
    if isinstance(option.default, bool):
        return {"true": True, "yes": True, "false": False, "no": False}.get(text.lower(), text)
    for kind in (int, float):
        if isinstance(option.default, float) or (kind is int and isinstance(option.default, int)):
            try:
                return kind(text)
            except ValueError:
                continue
    return text


def typed(name: str, texts: list[str]) -> dict[str, Value]:
    """``key=value`` lines of the command line as options of the kinds in ``name``.

    Raises:
        InvalidInput: an unknown kind, or a line without ``=``.
    """
    kinds = [kind_named(part) for part in name.split("+")]
    values: dict[str, Value] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            fault = Fault("--set", f"{text!r} is not KEY=VALUE")
            raise InvalidInput(str(fault), (fault,), "For example --set ratio=0.3.")
        found = _owner(key, kinds)
        # An unknown option stays text: steps_of names it with all other faults.
        values[key] = (
            value if isinstance(found, str) else read_value(found[0].options[found[1]], value)
        )
    return values
