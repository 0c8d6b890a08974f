"""What an ONNX file would make whoever loads it do, read from its bytes alone. Pure.

Loaders follow a file's wishes: they open files that it names and look for operations that it
brings. So the bytes are read here first, by protobuf's wire format, without any such loader; what
is not understood is refused.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from steelyard.domain.errors import Refused

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operations that onnxruntime itself has."""
OPENS_FILES = frozenset({("com.microsoft", "EPContext")})
"""Operations whose attributes name a file to load."""
PARTS: Mapping[str, Mapping[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto",
        22: "SparseTensorProto", 23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}  # fmt: skip
"""Message -> field -> message: every way from a model to a tensor or an operation."""
DEEPEST = 100
"""protobuf's own limit."""
MOST_FIELDS = 5_000_000
"""Of all messages together; a network of a hundred thousand operations has two million."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
LONGEST_VARINT = 10
Value = int | memoryview


@dataclass
class Found:
    """What was met on the way through a file."""

    graphs: int = 0
    fields: int = 0
    operations: set[tuple[str, str]] = field(default_factory=set)
    functions: set[tuple[str, str]] = field(default_factory=set)


def check_onnx(data: bytes) -> None:
    """Refuse what is no ONNX file, or one that does not stand alone.

    Raises:
        Refused: it is broken off or something else, a weight lies in another file, or an
            operation is not onnxruntime's own.
    """
    found = Found()
    try:
        _walk(memoryview(data), found)
    except ValueError as error:
        raise Refused(f"It is not an ONNX file: {error}.") from None
    if found.graphs == 0:
        raise Refused("It is not an ONNX file: it holds no graph.")
    for domain, name in sorted(found.operations - found.functions):
        if domain not in DOMAINS:
            raise Refused(
                f"Operation {name} is of the domain {domain!r}: it needs a library of its own.",
                f"Served are the operations of {', '.join(sorted(DOMAINS - {''}))}.",
            )
    for domain, name in sorted(found.operations & OPENS_FILES):
        raise Refused(f"Operation {domain}.{name} loads another file; a model is one file.")


def _walk(data: memoryview, found: Found) -> None:
    waiting: list[tuple[str, memoryview, int]] = [("ModelProto", data, 0)]
    while waiting:
        message, part, depth = waiting.pop()
        if depth > DEEPEST:
            raise ValueError(f"its parts lie more than {DEEPEST} deep")
        found.graphs += message == "GraphProto"
        values: dict[int, list[Value]] = {}
        for number, value in _fields(part, found):
            inner = PARTS[message].get(number)
            if inner is not None:
                waiting.append((inner, _bytes(value), depth + 1))
            else:
                values.setdefault(number, []).append(value)
        if message == "TensorProto":
            _check_tensor(values)
        elif message == "NodeProto":
            found.operations.add((_text(values.get(7)), _text(values.get(4))))
        elif message == "FunctionProto":
            found.functions.add((_text(values.get(10)), _text(values.get(1))))


def _check_tensor(values: Mapping[int, list[Value]]) -> None:
    """A tensor's own bytes are in it; onnxruntime even takes an address in memory for a place."""
    entries, places = values.get(13, []), values.get(14, [])
    if not entries and not any(places):
        return
    named = [dict(_fields(_bytes(entry), Found())) for entry in entries]
    location = next((_said(e.get(2)) for e in named if _said(e.get(1)) == "location"), "?")
    raise Refused(
        f"Weight {_text(values.get(8))!r} lies outside of the file, in {location!r}.",
        "A model is one file: export it with external_data=False.",
    )


def _fields(data: memoryview, found: Found) -> Iterator[tuple[int, Value]]:
    """Field numbers and values of one message, in their order."""
    at = 0
    while at < len(data):
        found.fields += 1
        if found.fields > MOST_FIELDS:
            raise ValueError(f"it has more than {MOST_FIELDS:,} fields")
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 2**29:
            raise ValueError(f"field number {number} cannot be")
        if kind == VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == BYTES:
            length, at = _varint(data, at)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind} cannot be")
        if length > len(data) - at:
            raise ValueError("it is broken off")
        yield number, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = 0
    for count, byte in enumerate(data[at : at + LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, at + count + 1
    raise ValueError("it is broken off")


def _bytes(value: Value) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number stands where a part belongs")
    return value


def _text(values: list[Value] | None) -> str:
    """The last one counts, as protobuf has it."""
    return _said(values[-1]) if values else ""


def _said(value: Value | None) -> str:
    return bytes(value).decode(errors="replace") if isinstance(value, memoryview) else ""
