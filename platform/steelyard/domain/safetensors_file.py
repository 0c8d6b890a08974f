"""What a safetensors file says of itself: its tensors, and the network that they belong to. Pure.

Weights alone answer nothing. So a file that replicas load names an architecture, which whoever
installed the replica has registered, and its hyper-parameters as JSON. Both stand in the header,
under the same digest as the weights; nothing in the file is code.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from steelyard.domain.errors import Refused
from steelyard.domain.model_version import Signature, TensorSpec

LARGEST_HEADER = 16 * 2**20
"""A hundred thousand tensors have less."""
ABOUT = "steelyard"
"""The entry of the header's metadata that says which network it is."""
NAMED = 5
"""Most tensors that a refusal names."""
Precision = Literal["FP32", "BF16"]
Value = bool | int | float | str


@dataclass(frozen=True, slots=True)
class TensorForm:
    """A tensor's type in the format's words (``F32``), and its shape."""

    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.datatype}{list(self.shape)}"


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """What is to be built, what it takes and gives, and the tensors that the file brings for it.

    ``computes_in`` is the type of weights and arithmetic; inputs and outputs are the signature's.
    """

    architecture: str
    hyperparameters: Mapping[str, Value]
    signature: Signature
    computes_in: Precision
    tensors: Mapping[str, TensorForm]


def about(
    architecture: str,
    hyperparameters: Mapping[str, Value],
    signature: Signature,
    computes_in: Precision = "FP32",
) -> dict[str, str]:
    """The metadata to write a file with, so that ``network_file`` reads it again."""
    said = {"architecture": architecture, "hyperparameters": dict(hyperparameters),
            "computes_in": computes_in, **asdict(signature)}  # fmt: skip
    return {ABOUT: json.dumps(said, sort_keys=True)}


def check_safetensors(data: bytes) -> None:
    """Refuse what is no safetensors file: its header must describe its bytes, all of them.

    Raises:
        Refused: the header is larger than the file, is no JSON, or its tensors overlap.
    """
    _header(data)


def network_file(data: bytes) -> NetworkFile:
    """What a file says that it is.

    Raises:
        Refused: it is no safetensors file, or does not say which network its tensors belong to.
    """
    header = _header(data)
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or ABOUT not in metadata:
        raise Refused(
            "It holds tensors and names no architecture, so no network can be built for them.",
            "Make it with `steelyard compress MODEL/VERSION --variant safetensors`.",
        )
    try:
        said = json.loads(metadata[ABOUT])
        return NetworkFile(
            _text(said["architecture"]), _hyperparameters(said["hyperparameters"]),
            Signature(_specs(said["inputs"]), _specs(said["outputs"])),
            _precision(said["computes_in"]),
            {name: TensorForm(one["dtype"], tuple(one["shape"]))
             for name, one in header.items() if name != "__metadata__"},
        )  # fmt: skip
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Refused(f"What it says of its network is malformed ({error}).") from None


def check_tensors(found: Mapping[str, TensorForm], wanted: Mapping[str, TensorForm]) -> None:
    """Refuse a file whose tensors are not the network's, before one of them is loaded.

    Raises:
        Refused: names tensors that are missing, left over, or of another type or shape.
    """
    faults = [f"{name} is missing" for name in wanted if name not in found]
    faults += [f"{name} is none of the network's" for name in found if name not in wanted]
    faults += [
        f"{name} is {found[name]}, the network's {form}"
        for name, form in wanted.items()
        if found.get(name, form) != form
    ]
    if faults:
        more = f", and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
        raise Refused(f"Its tensors are another network's: {'; '.join(faults[:NAMED])}{more}.")


def _header(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(LARGEST_HEADER, len(data) - 8):
        raise Refused(
            f"It is not a safetensors file: its header says {length:,} bytes, the file has "
            f"{len(data):,}."
        )
    try:
        header: dict[str, Any] = json.loads(data[8 : 8 + length])
        spans = sorted(_span(name, about) for name, about in header.items()
                       if name != "__metadata__")  # fmt: skip
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Refused(f"It is not a safetensors file: its header is malformed ({error}).") from None
    ends = [0, *(end for _, end in spans)]
    if [start for start, _ in spans] != ends[:-1] or ends[-1] != len(data) - 8 - length:
        raise Refused("It is not a safetensors file: its tensors leave gaps, overlap or break off.")
    return header


def _span(name: str, about: Mapping[str, object]) -> tuple[int, int]:
    offsets = about["data_offsets"]
    match offsets:
        case [int(start), int(end)] if 0 <= start <= end:
            return start, end
    raise ValueError(f"{name} has no place")


def _text(found: object) -> str:
    if not isinstance(found, str) or not found:
        raise ValueError(f"{found!r} is no name")
    return found


def _hyperparameters(found: Mapping[str, object]) -> dict[str, Value]:
    made = {}
    for name, value in found.items():
        if not isinstance(value, bool | int | float | str):
            raise ValueError(f"{name} is no plain value")
        made[name] = value
    return made


def _specs(found: list[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(_text(one["name"]), _text(one["datatype"]), tuple(map(int, one["shape"])))
        for one in found
    )


def _precision(found: object) -> Precision:
    match found:
        case "FP32" | "BF16":
            return found
    raise ValueError(f"it cannot compute in {found!r}")
