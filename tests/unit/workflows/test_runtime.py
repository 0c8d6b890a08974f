"""What runs a file: evidence by any runtime, and who opens a version."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from steelyard.bootstrap.runtimes import hardware_profile, runtime_session
from steelyard.domain.errors import Refused
from steelyard.domain.evidence import other_hardware
from steelyard.domain.model_version import ModelVersion, Signature
from steelyard_workflows.data import Dataset
from steelyard_workflows.evaluation.evidence import Subject, measure, subject
from steelyard_workflows.evaluation.runtime import check_runs, library_of, opened, outputs_of
from steelyard_workflows.evaluation.torch_runtime import TorchRuntime
from steelyard_workflows.export import Artifact

OPENVINO = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")


@dataclass
class OneRow:
    """A runtime that takes single rows only, and keeps how many it was given at once."""

    network: nn.Module
    name: str = "torch 0.0"
    datatype: str | None = "int8"
    batch: int | None = 1
    seen: set[int] = field(default_factory=set)

    def answer(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """The answer to one row."""
        self.seen.add(len(rows))
        return TorchRuntime(self.network).answer(rows)


@dataclass
class Fours(OneRow):
    """The same for rows by four."""

    batch: int | None = 4


def version(artifact: str = "model.onnx", runtime: str = "onnxruntime") -> ModelVersion:
    """A version whose file and runtime are these."""
    return ModelVersion("digits", 2, "r", "s", artifact, "0" * 64, 1, "kind", "quantized",
                        Signature((), ()), 0, runtime=runtime)  # fmt: skip


@pytest.mark.parametrize("kind", [OneRow, Fours])
def test_a_runtime_gets_the_only_number_of_rows_that_it_takes(
    kind: type[OneRow], network: nn.Module, digits: Dataset
) -> None:
    """Also where the rows do not divide by it; the answers are those of the network."""
    runtime, rows = kind(network), digits.test.inputs[:7]
    found = outputs_of(runtime, rows)
    assert runtime.seen == {runtime.batch} and len(found) == 7
    np.testing.assert_allclose(found, TorchRuntime(network).answer(rows), atol=1e-5)


def test_a_speed_that_cannot_be_measured_is_left_out(
    network: nn.Module, exported: Artifact, digits: Dataset, tmp_path: Path
) -> None:
    """Batch 32 of a runtime for single rows is unknown, and so is what its file takes to load."""
    file = tmp_path / "model.pte"
    file.write_bytes(b"program")
    found = measure(Subject(file, OneRow(network)), digits.test, subject(exported.path))
    own, parent = found.evidence.own, found.evidence.parent
    assert own is not None and parent is not None
    assert [s.batch for s in own.speeds] == [1] and [s.batch for s in parent.speeds] == [1, 32]
    assert (own.load_s, own.memory_bytes, own.parameters, own.nonzero) == (None,) * 4
    assert parent.memory_bytes and parent.parameters
    assert found.evidence.agreement == 1.0 and found.evidence.parent_size_bytes is not None
    # Batches of 32, and loading the file, were the parent's alone.
    assert found.parent > found.own + 20 * 32 and found.own > 2 * 360


def test_evidence_names_the_runtime_and_what_it_computes_in(
    network: nn.Module, digits: Dataset, tmp_path: Path
) -> None:
    """That of the version, not that of its parent or of the replicas."""
    file = tmp_path / "model.pte"
    file.write_bytes(b"program")
    found = measure(Subject(file, OneRow(network)), digits.test).evidence.hardware
    assert (found["runtime"], found["datatype"]) == ("torch 0.0", "int8")
    assert "provider" not in found and found["machine"] == hardware_profile()["machine"]


def test_the_work_is_counted_by_what_each_side_answered(
    exported: Artifact, digits: Dataset
) -> None:
    """FLOPs of a pair are the sum of both sides'; unknown where one is unknown."""
    from steelyard.domain.model_version import FlopsProfile

    found = measure(subject(exported.path), digits.test, subject(exported.path))
    one, two = (FlopsProfile(n, None, "m", 1.0) for n in (10, 20))
    assert found.own == found.parent == found.inferences // 2
    assert found.flop(one, two) == 30 * found.own
    assert found.flop(one, None) is None and found.flop(FlopsProfile(None, None, "m", 0.0)) is None


def test_a_runtime_is_known_by_its_distribution(exported: Artifact) -> None:
    """Names are the distribution and its version, as the hardware profile has them."""
    runtime = opened(exported.path)
    assert library_of(runtime) == "onnxruntime"
    assert runtime.name == hardware_profile()["runtime"]
    assert TorchRuntime(nn.Identity()).name == hardware_profile("torch")["runtime"]


def test_evidence_by_another_runtime_is_stale() -> None:
    """A version is held against the runtime that runs it; one that is not here is unknown."""
    ours = hardware_profile()
    assert other_hardware(ours, hardware_profile()) == ()
    assert other_hardware(ours, hardware_profile("torch"))
    assert "runtime" not in hardware_profile("no-such-distribution")


@pytest.mark.parametrize(
    ("artifact", "runtime", "servable"),
    [
        ("model.onnx", "onnxruntime", True),
        ("model.onnx", "openvino", True),
        ("model.onnx", "torch", False),
        ("model.safetensors", "torch", True),
        ("model.safetensors", "onnxruntime", False),
        ("bundle.zip", "onnxruntime", False),
        ("model.pte", "executorch", False),
    ],
)
def test_replicas_load_what_each_of_their_runtimes_runs(
    artifact: str, runtime: str, servable: bool
) -> None:
    """File and runtime decide, both; weights of before the field say no runtime, and are not."""
    one = version(artifact, runtime)
    assert one.servable is servable
    if not servable:
        with pytest.raises(Refused, match=f"{artifact} for {runtime}"):
            check_runs(one)


def test_a_runtime_that_is_not_installed_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, exported: Artifact
) -> None:
    """The replica and the evaluator fail with the library's name and the command."""
    monkeypatch.delitem(sys.modules, "steelyard.adapters.openvino_session", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(Refused, match="openvino is not installed") as caught:
        runtime_session("openvino", exported.path.read_bytes())
    assert caught.value.hint == 'pip install "steelyard[openvino]" in this environment.'
    with pytest.raises(Refused, match="No replica runs executorch"):
        runtime_session("executorch", exported.path.read_bytes())
    with pytest.raises(Refused, match="It is not a safetensors file"):
        runtime_session("torch", exported.path.read_bytes())


@OPENVINO
def test_openvino_is_loaded_without_telling_its_makers(tmp_path: Path) -> None:
    """It leaves no file in the home, and neither it nor NNCF finds the module that sends."""
    code = (
        "import sys; from steelyard.bootstrap.runtimes import session_class; "
        "session_class('openvino'); print(sys.modules['openvino_telemetry'])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "HOME": str(tmp_path)})  # fmt: skip
    assert said.stdout.split() == ["None"] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("library", ["onnxruntime", pytest.param("openvino", marks=OPENVINO)])
def test_zeros_are_a_row_of_the_model_s_own_form(library: str, exported: Artifact) -> None:
    """What a session is first tried with."""
    session = runtime_session(library, exported.path.read_bytes())
    row = session.zeros()
    assert tuple(row) == session.inputs and row[session.inputs[0]].shape == (1, 1, 8, 8)
    assert session.run(None, row)[0].dtype == np.float32


def test_torch_answers_without_a_gradient(network: nn.Module, digits: Dataset) -> None:
    """As evaluation mode has it."""
    found = TorchRuntime(network.eval()).answer(digits.test.inputs[:3])
    with torch.no_grad():
        expected = network(torch.from_numpy(digits.test.inputs[:3])).numpy()
    assert np.array_equal(found, expected)
