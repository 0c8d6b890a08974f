"""The bundle for devices: the same bytes, what runs from it, and what is not opened."""

import hashlib
import json
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from steelyard.domain.errors import InvalidInput, Refused
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_workflows.booking.metering import charge_for, stopwatch
from steelyard_workflows.data import Dataset
from steelyard_workflows.evaluation.runtime import opened
from steelyard_workflows.export import Artifact
from steelyard_workflows.recipes.digits_cnn import digits_cnn
from steelyard_workflows.variants import bundle_file, graph, onnx_bundle
from steelyard_workflows.variants.int8_static import quantize
from steelyard_workflows.variants.kind import Bench, Source, Value
from steelyard_workflows.variants.steps import steps_of

OPTIONS: dict[str, Value] = {"check_rows": 4, "check_from": "train"}
Packed = Callable[..., Path]


@pytest.fixture(scope="module")
def source(exported: Artifact, digits: Dataset) -> Source:
    """A version of the digits model that is about to be packed."""
    recipe = digits_cnn()
    version = ModelVersion(
        "digits", 1, "run", "models:/m-1", "model.onnx", exported.sha256, exported.size_bytes,
        "fp32", "trained", exported.signature, 0,
    )  # fmt: skip
    return Source(version, exported.path, recipe.workflow, recipe, digits,
                  digits.train.inputs[:0], graph.read(exported.path), None)  # fmt: skip


@pytest.fixture(scope="module")
def int8(
    source: Source, digits: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Source:  # fmt: skip
    """The same after a step that left it in INT8."""
    path = tmp_path_factory.mktemp("int8") / "model.onnx"
    quantize(source.path, digits.train.inputs[:128], path)
    return replace(source, path=path, graph=graph.read(path))


@pytest.fixture
def packed(source: Source, tmp_path: Path) -> Packed:
    """Packs a source as a compression does."""

    def make(name: str = "a", what: Source = source, **options: Value) -> Path:
        settings = Settings(home=tmp_path / "home")
        charge = charge_for(settings, "run", "digits", 1, None)
        (tmp_path / name).mkdir()
        with stopwatch(settings, charge, f"compress/{name}", is_attempt=False) as watch:
            bench = Bench(tmp_path / name, watch, "onnx_bundle", "5" * 64)
            return onnx_bundle.make(what, {**OPTIONS, **options}, bench).path

    return make


def device(bundle: Path, into: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Unpack as a device does, unless it was before, and run it without anything of ours."""
    if not into.exists():
        with zipfile.ZipFile(bundle) as file:
            file.extractall(into)
    return subprocess.run([sys.executable, "-I", str(into / "run.py"), *arguments],
                          capture_output=True, text=True, timeout=120, check=False)  # fmt: skip


def rewritten(bundle: Path, name: str, content: bytes) -> None:
    """The bundle with another file under one of its names, else as before."""
    with zipfile.ZipFile(bundle) as file:
        contents = {one: file.read(one) for one in file.namelist()}
    with zipfile.ZipFile(bundle, "w") as file:
        for one in contents:
            file.writestr(one, content if one == name else contents[one])


def test_the_same_model_gives_the_same_bytes(packed: Packed) -> None:
    """Neither when nor where it was packed is in it; other rows give another bundle."""
    first = packed("a").read_bytes()
    assert packed("b").read_bytes() == first
    assert packed("c", check_rows=5).read_bytes() != first


def test_a_device_answers_as_the_version_does(
    packed: Packed, source: Source, tmp_path: Path
) -> None:
    """With onnxruntime and numpy alone, it checks the files, itself, and answers new rows."""
    rows, bundle = source.dataset.test.inputs[:300], packed()
    np.save(tmp_path / "rows.npy", rows)
    out = tmp_path / "answers.npy"
    ran = device(bundle, tmp_path / "device", str(tmp_path / "rows.npy"), str(out))
    assert (ran.returncode, ran.stdout) == (0, "")
    assert "files and 4 answers as packed" in ran.stderr
    expected = opened(source.path).answer(rows)
    assert np.abs(np.load(out, allow_pickle=False) - expected).max() <= 1e-4
    assert np.array_equal(onnx_bundle.run(replace(source, path=bundle)).answer(rows), expected)


def test_the_manifest_says_what_a_device_has_to_know(
    packed: Packed, source: Source, network: nn.Module
) -> None:
    """Where the model is from, what it takes and gives, and what runs it."""
    found = bundle_file.read(packed()).manifest
    assert (found["model"], found["variant"]) == ("digits", "onnx_bundle")
    assert found["parent"] == {"name": "digits/1", "sha256": source.version.sha256}
    assert found["recipe_sha256"] == "5" * 64
    assert found["signature"]["inputs"][0]["shape"] == [-1, 1, 8, 8]
    assert found["onnx"] == {"ir_version": 10, "opset": {"ai.onnx": 20}}
    assert found["onnxruntime"]["least"] == "1.18"
    assert found["parameters"] == sum(p.numel() for p in network.parameters())
    assert set(found["files"]) == set(bundle_file.ENTRIES) - {"manifest.json"}


def test_an_int8_model_may_round_otherwise_on_a_device(
    packed: Packed, int8: Source, tmp_path: Path
) -> None:
    """Its answers are compared with more patience than those of an FP32 model."""
    bundle = packed(what=int8)
    assert bundle_file.read(bundle).manifest["check"]["tolerance"] == 0.1
    assert device(bundle, tmp_path / "device").returncode == 0


def test_training_rows_stay_at_home_when_they_are_asked_to(packed: Packed, tmp_path: Path) -> None:
    """The self-test then answers zeros."""
    bundle = packed(check_from="zeros")
    assert device(bundle, tmp_path / "device").returncode == 0
    assert not np.load(tmp_path / "device" / "check_rows.npy", allow_pickle=False).any()


@pytest.mark.parametrize("name", ["model.onnx", "check_answers.npy", "run.py", "README.md"])
def test_a_device_uses_no_file_that_was_changed(
    packed: Packed, tmp_path: Path, name: str
) -> None:  # fmt: skip
    """One bit is enough, and no answer is given."""
    bundle, folder = packed(), tmp_path / "device"
    device(bundle, folder)
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1
    (folder / name).write_bytes(content)
    np.save(tmp_path / "rows.npy", np.zeros((1, 1, 8, 8), np.float32))
    ran = device(bundle, folder, str(tmp_path / "rows.npy"), str(tmp_path / "out.npy"))
    assert ran.returncode != 0 and not (tmp_path / "out.npy").exists()
    assert name == "run.py" or f"{name} was changed" in ran.stderr


def test_a_device_that_answers_otherwise_does_not_answer(packed: Packed, tmp_path: Path) -> None:
    """The digests are right, but what is computed there is not what was computed here."""
    bundle, folder = packed(), tmp_path / "device"
    device(bundle, folder)
    answers = np.load(folder / "check_answers.npy", allow_pickle=False)
    np.save(folder / "check_answers.npy", answers + 0.5)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["check_answers.npy"]["sha256"] = hashlib.sha256(
        (folder / "check_answers.npy").read_bytes()
    ).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    ran = device(bundle, folder)
    assert ran.returncode == 1 and "apart, allowed is 1e-04" in ran.stderr


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.zeros((2, 8, 8), np.float32), "has rows of [8, 8], the model takes [1, 8, 8]"),
        (np.zeros((2, 1, 8, 8), np.float64), "no rows of float32"),
        (np.array([{}, None], object), "not a .npy file of numbers"),
        (np.float32(1), "no rows of float32"),
    ],
)
def test_a_device_says_which_rows_it_cannot_take(
    packed: Packed, tmp_path: Path, rows: np.ndarray, said: str
) -> None:
    """Other shapes, other types, and objects, which would have to be unpickled."""
    np.save(tmp_path / "rows.npy", rows, allow_pickle=True)
    ran = device(packed(), tmp_path / "device", str(tmp_path / "rows.npy"), "unused.npy")
    assert ran.returncode == 2 and said in ran.stderr


@pytest.mark.parametrize("name", ["model.onnx", "run.py", "check_rows.npy"])
def test_a_bundle_that_was_tampered_with_is_not_opened(packed: Packed, name: str) -> None:
    """Each file is the one that the manifest lists, whatever the ZIP's own sums say."""
    bundle = packed()
    with zipfile.ZipFile(bundle) as file:
        content = bytearray(file.read(name))
    content[len(content) // 2] ^= 1
    rewritten(bundle, name, bytes(content))
    with pytest.raises(Refused, match=r"the file that its manifest lists|It is not|It holds"):
        bundle_file.read(bundle)


def test_a_bundle_that_would_write_elsewhere_is_not_opened(packed: Packed, tmp_path: Path) -> None:
    """Names are compared with the six that there are; nothing is unpacked to the disk."""
    bundle = packed()
    with zipfile.ZipFile(bundle) as file:
        contents = {one: file.read(one) for one in file.namelist()}
    for evil in ("../evil.py", "/etc/evil", "README.MD"):
        with zipfile.ZipFile(bundle, "w") as file:
            for one, content in contents.items():
                file.writestr(evil if one == "README.md" else one, content)
        with pytest.raises(Refused, match=r"[Ii]t holds"):
            bundle_file.read(bundle)
    assert not (tmp_path / "evil.py").exists()


def test_a_bundle_with_a_link_or_one_entry_more_is_not_opened(packed: Packed) -> None:
    """Six plain files are all that a bundle has."""
    bundle = packed()
    with zipfile.ZipFile(bundle) as file:
        contents = {one: file.read(one) for one in file.namelist()}
    with zipfile.ZipFile(bundle, "a") as file:
        file.writestr("more.py", "")
    with pytest.raises(Refused, match=r"it holds .*more.py"):
        bundle_file.read(bundle)
    with zipfile.ZipFile(bundle, "w") as file:
        for one, content in contents.items():
            entry = zipfile.ZipInfo(one)
            entry.external_attr = (0o120777 if one == "model.onnx" else 0o100644) << 16
            file.writestr(entry, content)
    with pytest.raises(Refused, match=r"It holds 'model.onnx'"):
        bundle_file.read(bundle)


def test_a_bomb_is_not_unpacked(packed: Packed, tmp_path: Path) -> None:
    """Compressed entries are refused before one byte of them is read, and so is a false size."""
    bundle, bomb = packed(), tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        for name in bundle_file.ENTRIES:
            file.writestr(name, bytes(50 * 2**20 if name == "model.onnx" else 1))
    assert bomb.stat().st_size < 2**20
    with pytest.raises(Refused, match="It unpacks"):
        bundle_file.read(bomb)
    content = bytearray(bundle.read_bytes())
    place = content.rindex(b"PK\1\2")
    content[place + 24 : place + 28] = struct.pack("<L", 2**31 - 1)
    bundle.write_bytes(content)
    with pytest.raises(Refused, match="It unpacks"):
        bundle_file.read(bundle)


@pytest.mark.parametrize("change", ["empty", "comment", "cut", "many", "wide"])
def test_what_is_no_zip_of_ours_is_not_parsed(packed: Packed, change: str) -> None:
    """The last record is looked at first: it says how much there would be to parse."""
    bundle = packed()
    content = bytearray(bundle.read_bytes())
    if change == "comment":
        with zipfile.ZipFile(bundle, "a") as file:
            file.comment = b"a comment"
        content = bytearray(bundle.read_bytes())
    elif change == "many":
        content[-12:-10] = struct.pack("<H", 65535)
    elif change == "wide":
        content[-10:-6] = struct.pack("<L", 2**30)
    else:
        content = content[: 0 if change == "empty" else -7]
    bundle.write_bytes(content)
    with pytest.raises(Refused, match=r"It is not|It holds"):
        bundle_file.read(bundle)


def test_rows_that_are_too_large_to_take_along_are_refused(tmp_path: Path) -> None:
    """The message says which option makes them fewer."""
    with pytest.raises(Refused, match=r"check_rows\.npy of a bundle takes 67,108,865") as caught:
        bundle_file.write(tmp_path / "bundle.zip", {}, {"check_rows.npy": bytes(64 * 2**20 + 1)})
    assert "check_rows=1" in str(caught.value.hint)


def test_a_bundle_comes_after_all_else_and_takes_onnx() -> None:
    """It packs what the other steps leave."""
    names = [step.kind.name for step in steps_of("pruned_structured+int8_static+onnx_bundle", {})]
    assert names == ["pruned_structured", "int8_static", "onnx_bundle"]
    with pytest.raises(InvalidInput, match="onnx_bundle writes the file: it comes last"):
        steps_of("onnx_bundle+int8_static", {})
    with pytest.raises(InvalidInput, match=r"takes ONNX, bf16 leaves .safetensors"):
        steps_of("bf16+onnx_bundle", {})
