"""A version that torch runs: weights from the file, the network from what is installed here."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from tests.torch_version import torch_version
from torch import nn

from steelyard.bootstrap.runtimes import runtime_session
from steelyard.domain.errors import Refused
from steelyard.domain.model_version import TORCH, Signature, TensorSpec
from steelyard.domain.safetensors_file import Value, about
from steelyard.ports.applications import ServedVersion
from steelyard_serving.replica import LoadedModel

NETWORK = '''
import torch
from torch import nn


class Pair(nn.Module):
    """A linear layer of a width that is told, and the mean of its outputs."""

    def __init__(self, width=3):
        super().__init__()
        self.layer = nn.Linear(2, width)
        self.drop = nn.Dropout(0.5)
        self.hyperparameters = {"width": width}

    def forward(self, x):
        y = self.drop(self.layer(x))
        return y, y.mean(1)


def nothing():
    return 1
'''
POINTS = """[steelyard.architectures]
pair = planted_pair:Pair
no_network = planted_pair:nothing
elsewhere = planted_not_there:Pair
"""
SIGNATURE = Signature(
    (TensorSpec("x", "FP32", (-1, 2)),),
    (TensorSpec("y", "FP32", (-1, 5)), TensorSpec("mean", "FP32", (-1,))),
)


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], nn.Module]:
    """A distribution of somebody else's that registers an architecture; makes its networks."""
    about_it = tmp_path / "planted_pair-1.dist-info"
    about_it.mkdir()
    (about_it / "METADATA").write_text("Metadata-Version: 2.1\nName: planted-pair\nVersion: 1\n")
    (about_it / "entry_points.txt").write_text(POINTS)
    (tmp_path / "planted_pair.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "planted_pair", raising=False)

    def make(width: int) -> nn.Module:
        torch.manual_seed(width)
        made: nn.Module = __import__("planted_pair").Pair(width)
        return made.eval()

    return make


def file(
    network: nn.Module, name: str = "pair", told: dict[str, Value] | None = None,
    precision: str = "FP32",
) -> bytes:  # fmt: skip
    """The network's weights as ``compress`` writes them."""
    told = {"width": 5} if told is None else told
    said = about(name, told, SIGNATURE, "BF16" if precision == "BF16" else "FP32")
    data: bytes = save(network.state_dict(), said)
    return data


def test_a_replica_answers_as_torch_does(pair: Callable[[int], nn.Module], tmp_path: Path) -> None:
    """Bit for bit, every output, for several rows, and for rows that nobody may write to."""
    network = pair(5)
    one = torch_version("pair", file(network), SIGNATURE, tmp_path)
    model = LoadedModel(one.version, one.artifact)
    rows = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
    with torch.inference_mode():
        expected = [part.numpy() for part in network(torch.from_numpy(rows))]
    rows.flags.writeable = False
    found = model.run({"x": rows})
    assert list(found) == ["y", "mean"] and model.takes_batches
    for answer, by_torch in zip(found.values(), expected, strict=True):
        np.testing.assert_array_equal(answer, by_torch)


def test_asking_leaves_torch_as_many_threads_as_it_had(
    pair: Callable[[int], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica is one device, but the process that measures one may train as well."""
    session = runtime_session(TORCH, file(pair(5)))
    seen: list[int] = []

    def forward(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return x

    monkeypatch.setattr(nn.Linear, "forward", forward)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        session.run(["mean"], session.zeros())
        assert (seen, torch.get_num_threads()) == ([1], 3)
    finally:
        torch.set_num_threads(before)


def test_bfloat16_takes_and_gives_what_the_signature_says(
    pair: Callable[[int], nn.Module],
) -> None:
    """Weights and arithmetic are narrow, in and out stay FP32."""
    network = pair(5)
    session = runtime_session(TORCH, file(network.to(torch.bfloat16), precision="BF16"))
    rows = np.ones((2, 2), np.float32)
    (found,) = session.run(["y"], {"x": rows})
    with torch.inference_mode():
        expected = network(torch.ones(2, 2, dtype=torch.bfloat16))[0].float().numpy()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("name", "told", "why"),
    [
        ("other", None, "architecture 'other' is not registered here; registered: .*pair"),
        ("os:system", None, "architecture 'os:system' is not registered"),
        ("elsewhere", None, "elsewhere does not load here: No module named"),
        ("no_network", {}, "no_network makes no torch network"),
        ("pair", {"widht": 5}, "cannot be made with {'widht': 5}: .*unexpected keyword"),
        ("pair", {"width": -1}, "cannot be made with {'width': -1}"),
        ("pair", {"width": 4}, r"layer.weight is F32\[5, 2\], the network's F32\[4, 2\]"),
    ],
)
def test_what_is_not_registered_or_does_not_fit_is_refused_by_name(
    pair: Callable[[int], nn.Module], name: str, told: dict[str, Value] | None, why: str
) -> None:
    """Before a tensor is loaded; nothing but registered names reaches an import."""
    with pytest.raises(Refused, match=why):
        runtime_session(TORCH, file(pair(5), name, told))


def test_missing_and_extra_tensors_are_refused(pair: Callable[[int], nn.Module]) -> None:
    """Both at once, by name."""
    network = pair(5)
    state = {"layer.weight": network.state_dict()["layer.weight"], "more": torch.zeros(1)}
    data = save(state, about("pair", {"width": 5}, SIGNATURE))
    with pytest.raises(Refused, match=r"layer\.bias is missing; more is none of the network's"):
        runtime_session(TORCH, data)


WHAT_ONNX_BRINGS = """
import sys
import steelyard_serving.app, steelyard_serving.deployment
from pathlib import Path
from steelyard.bootstrap.runtimes import runtime_session
runtime_session("onnxruntime", Path(sys.argv[1]).read_bytes())
print([name for name in ("torch", "safetensors", "steelyard_workflows") if name in sys.modules])
"""


def test_only_a_replica_that_torch_runs_imports_it(
    make_served: Callable[[int], ServedVersion],
) -> None:
    """An ONNX version's replica stays as small as it was."""
    artifact = make_served(3).artifact
    done = subprocess.run([sys.executable, "-c", WHAT_ONNX_BRINGS, str(artifact)], check=True,
                          capture_output=True, text=True, timeout=120)  # fmt: skip
    assert done.stdout == "[]\n"


def test_changed_weights_are_refused_by_the_replica(
    pair: Callable[[int], nn.Module], tmp_path: Path
) -> None:
    """The digest is that of the bytes that are loaded."""
    data = file(pair(5))
    one = torch_version("pair", data, SIGNATURE, tmp_path)
    one.artifact.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(Refused, match="has SHA-256"):
        LoadedModel(one.version, one.artifact)
