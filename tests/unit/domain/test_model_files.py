"""Which files may be versions, told by their names and by their bytes."""

import io
import json
import zipfile

import numpy as np
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import save

from steelyard.domain.errors import Refused
from steelyard.domain.model_files import check_content, check_name, check_size


def onnx_file() -> bytes:
    """The least of all models."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    node = helper.make_node("Identity", ["x"], ["y"])
    data: bytes = helper.make_model(
        helper.make_graph([node], "g", ends[:1], ends[1:])
    ).SerializeToString()
    return data


def array(values: object, pickled: bool = False) -> bytes:
    """A .npy file."""
    into = io.BytesIO()
    np.save(into, np.asarray(values, object if pickled else None), allow_pickle=pickled)
    return into.getvalue()


def zipped(members: dict[str, bytes], packing: int = zipfile.ZIP_STORED, mode: int = 0) -> bytes:
    """A ZIP file."""
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", packing) as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr, entry.compress_type = mode << 16, packing
            archive.writestr(entry, content)
    return into.getvalue()


def safe(header: object, body: bytes = b"") -> bytes:
    """A safetensors file with this header."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def encrypted(archive: bytes) -> bytes:
    """The archive, with entries that say that they are encrypted."""
    found = bytearray(archive)
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = found.find(magic)
        while at >= 0:
            found[at + flags] |= 1
            at = found.find(magic, at + 1)
    return bytes(found)


BUNDLE = {"manifest.json": b"{}", "model.onnx": onnx_file(), "check_rows.npy": array([1.0]),
          "run.py": b"print(1)", "README.md": b"# It"}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("model.onnx", onnx_file()),
        ("model.safetensors", save({"w": np.ones((2, 3), np.float32), "b": np.zeros(0)})),
        ("model.safetensors", safe({"__metadata__": {"format": "pt"}})),
        ("bundle.zip", zipped(BUNDLE)),
        ("model.pte", b"\x1c\0\0\0ET12" + b"\0" * 24),
        ("model.tflite", b"\x1c\0\0\0TFL3" + b"\0" * 24),
    ],
)
def test_a_file_that_is_what_its_name_says_is_taken(name: str, data: bytes) -> None:
    """One of each kind that the registry has."""
    check_content(name, data)


@pytest.mark.parametrize(
    "name",
    ["model.pt", "model.pth", "model.pt2", "model.pkl", "model.joblib", "model.npy", "model.npz",
     "model.h5", "model.keras", "model.bin", "model.so", "model", "model.ONNX", "model.onnx.pkl"],
)  # fmt: skip
def test_a_kind_that_may_run_code_is_refused(name: str) -> None:
    """By its suffix alone; the message says which kinds there are."""
    with pytest.raises(Refused, match=r"of no kind that is registered .*\.onnx, \.safetensors"):
        check_content(name, onnx_file())


@pytest.mark.parametrize(
    "name",
    ["../model.onnx", "/etc/model.onnx", "a/model.onnx", "a\\model.onnx", "%2e%2e.onnx", "",
     ".onnx", "model\0.onnx", "model.onnx\n", f"{'a' * 130}.onnx"],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    """A version's file lies in its folder."""
    with pytest.raises(Refused, match=r"no plain file name|of no kind"):
        check_name(name)


def test_a_file_above_two_gibibytes_is_refused() -> None:
    """One byte more is too much."""
    check_size("model.onnx", 2**31)
    with pytest.raises(Refused, match="2,147,483,649 bytes"):
        check_size("model.onnx", 2**31 + 1)


@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors", "b.zip", "m.pte", "m.tflite"])
@pytest.mark.parametrize("data", [b"", b"\x80\x04N.", b"cos\nsystem\n(S'true'\ntR.", b"PK\x03\x04"])
def test_a_pickle_under_another_name_is_refused(name: str, data: bytes) -> None:
    """It is not what the suffix says, and the message names the file."""
    with pytest.raises(Refused, match=f"^{name}: It is not a"):
        check_content(name, data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ((2**63).to_bytes(8, "little") + b"{}", "says 9,223,372,036,854,775,808 bytes"),
        ((2**24 + 1).to_bytes(8, "little") + b" " * (2**24 + 1), "header says"),
        (b"\x02\0\0\0\0\0\0", "header says"),
        (b"\x02\0\0\0\0\0\0\0{]", "malformed"),
        (safe([1, 2]), "malformed"),
        (safe({"w": {"dtype": "F32"}}), "malformed"),
        (safe({"w": {"data_offsets": [-4, 4]}}, b"1234"), "malformed"),
        (safe({"w": {"data_offsets": [4, 0]}}, b"1234"), "malformed"),
        (safe({"w": {"data_offsets": [0, 8]}}, b"1234"), "break off"),
        (safe({"w": {"data_offsets": [0, 4]}, "v": {"data_offsets": [2, 4]}}, b"1234"), "overlap"),
        (safe({"w": {"data_offsets": [0, 4]}}, b"12345678"), "gaps"),
        (b"\x40\x42\x0f\0\0\0\0\0" + b"[" * 1_000_000, "malformed"),
    ],
)  # fmt: skip
def test_a_hostile_header_is_refused(data: bytes, why: str) -> None:
    """Larger than the file, nested a million deep, tensors that overlap or lie outside."""
    with pytest.raises(Refused, match=why):
        check_content("model.safetensors", data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (zipped({"../run.py": b""}), "leads elsewhere"),
        (zipped({"/etc/run.py": b""}), "leads elsewhere"),
        (zipped({"model.pkl": b""}), "does not belong"),
        (zipped({"run.py": b"/etc/passwd"}, mode=0o120777), "does not belong"),
        (zipped({"a.npy": b"\0" * 10**7}, zipfile.ZIP_DEFLATED), "nothing in a bundle is packed"),
        (zipped({f"{n}.json": b"" for n in range(65)}), "holds 65 files"),
        (zipped({"a.npy": array([{}], pickled=True)}), "Python objects"),
        (zipped({"a.npy": b"\x93NUMPY\x01\0\xff\xffx"}), "npy file that is none"),
        (zipped({"a.npy": b"\x93NUMPY\x01\0\x01\0x"}), "without a header"),
        (zipped({"model.onnx": b"\x80\x04N."}), "not an ONNX file"),
        (encrypted(zipped(BUNDLE)), "encrypted"),
        (zipped(BUNDLE) + b"more", "does not end like one"),
        (zipped(BUNDLE)[:-30], "does not end like one"),
    ],
)  # fmt: skip
def test_a_bundle_that_is_more_than_one_is_refused(data: bytes, why: str) -> None:
    """Paths, links, pickles, what unpacks to more than it was, and what is not what it says."""
    with pytest.raises(Refused, match=f"^bundle.zip: .*{why}"):
        check_content("bundle.zip", data)
