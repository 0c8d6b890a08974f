"""What a safetensors file says of its network: read exactly, or refused with what is wrong."""

import json
from typing import Any

import pytest

from steelyard.domain.errors import Refused
from steelyard.domain.model_version import Signature, TensorSpec
from steelyard.domain.safetensors_file import (
    ABOUT,
    TensorForm,
    Value,
    about,
    check_tensors,
    network_file,
)

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 3)),))
TENSORS = {"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}


def file(metadata: object, tensors: dict[str, Any] | None = None, size: int = 24) -> bytes:
    """A safetensors file of zeros with this metadata."""
    header = {"__metadata__": metadata, **(TENSORS if tensors is None else tensors)}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(size)


def changed(**said: object) -> bytes:
    """A file that says something else of its network than it should."""
    found = json.loads(about("wide", {}, SIGNATURE)[ABOUT])
    return file({ABOUT: json.dumps({**found, **said})})


def test_what_was_written_is_read_again() -> None:
    """Architecture, hyper-parameters of each kind, signature, arithmetic, and every tensor."""
    given: dict[str, Value] = {"layers": 2, "share": 0.5, "norm": True, "name": "a"}
    found = network_file(file(about("wide", given, SIGNATURE, "BF16")))
    assert (found.architecture, found.hyperparameters) == ("wide", given)
    assert found.signature == SIGNATURE and found.computes_in == "BF16"
    assert found.tensors == {"w": TensorForm("F32", (2, 3))}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (file({"format": "pt"}), "names no architecture"),
        (file([1]), "names no architecture"),
        (file({ABOUT: "{"}), "malformed"),
        (file({ABOUT: "[]"}), "malformed"),
        (file({ABOUT: "{}"}), "malformed .*architecture"),
        (changed(architecture=""), "malformed .*is no name"),
        (changed(architecture=["os:system"]), "malformed .*is no name"),
        (changed(hyperparameters={"layers": [1]}), "malformed .*layers is no plain value"),
        (changed(hyperparameters=None), "malformed"),
        (changed(inputs=[{"name": "x"}]), "malformed"),
        (changed(outputs=[{"name": 1, "datatype": "FP32", "shape": []}]), "malformed"),
        (changed(computes_in="FP64"), "malformed .*cannot compute in 'FP64'"),
        (file(about("wide", {}, SIGNATURE), size=23), "leave gaps, overlap or break off"),
        (file(about("wide", {}, SIGNATURE), {"w": {"data_offsets": [0, 24]}}), "malformed"),
        (b"\x80\x04", "not a safetensors file"),
    ],
)
def test_a_file_that_does_not_say_what_it_is_is_refused(data: bytes, why: str) -> None:
    """Before anything is built."""
    with pytest.raises(Refused, match=why):
        network_file(data)


WANTED = {"w": TensorForm("F32", (2, 3)), "b": TensorForm("F32", (3,))}


def test_the_networks_own_tensors_are_taken() -> None:
    """In whatever order."""
    check_tensors(dict(reversed(WANTED.items())), WANTED)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({"w": WANTED["w"]}, "network's: b is missing"),
        ({**WANTED, "c": TensorForm("F32", ())}, "c is none of the network's"),
        ({**WANTED, "b": TensorForm("F32", (4,))}, r"b is F32\[4\], the network's F32\[3\]"),
        ({**WANTED, "b": TensorForm("F16", (3,))}, r"b is F16\[3\], the network's F32\[3\]"),
        ({str(n): TensorForm("F32", ()) for n in range(9)}, "; 2 is none .*, and 6 more"),
    ],
)
def test_tensors_of_another_network_are_named(found: dict[str, TensorForm], why: str) -> None:
    """Each by its name and what is wrong with it; of many, the first few."""
    with pytest.raises(Refused, match=why):
        check_tensors(found, WANTED)
