"""A version that torch runs, asked through the edge as any other: a replica with its door."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from tests.free_ports import free_ports
from tests.torch_version import torch_version

from steelyard.domain.model_version import Signature, TensorSpec
from steelyard.domain.safetensors_file import about
from steelyard.domain.traffic import Route
from steelyard.settings import Settings
from steelyard_serving.environment import prepare
from steelyard_serving.traffic_router import EdgeRouter
from steelyard_workflows.recipes.digits_cnn import DigitsCnn

from .conftest import Client, Edge, Replicas

pytestmark = pytest.mark.integration
SIGNATURE = Signature(
    (TensorSpec("input", "FP32", (-1, 1, 8, 8)),), (TensorSpec("logits", "FP32", (-1, 10)),)
)


@pytest.fixture(scope="module")
def network() -> DigitsCnn:
    """Of a recipe that comes with Steelyard, and so is registered."""
    torch.manual_seed(3)
    return DigitsCnn().eval()


@pytest.fixture(scope="module")
def client(network: DigitsCnn) -> Iterator[Client]:
    """A client of an edge whose one model torch runs."""
    home = Path(tempfile.mkdtemp(prefix="syt-"))
    settings = Settings(home=home, edge_port=free_ports(1)[0], meter_interval_s=2.0)
    prepare(settings)
    data = save(network.state_dict(), about("digits_cnn", {}, SIGNATURE))
    served = torch_version("digits", data, SIGNATURE, home)
    edge, replicas = Edge(settings), Replicas(settings, {1: served})
    edge.start()
    route = Route("digits", stable=1, generation=1, lineage="r1")
    EdgeRouter(settings).apply({"digits": route}, frozenset({("digits", 1)}))
    yield Client(settings)
    replicas.stop()
    edge.kill()
    shutil.rmtree(home)


def ask(client: Client, rows: NDArray[np.float32]) -> tuple[int, dict[str, str], Any]:
    """Infer rows of whatever shape."""
    tensor = {"name": "input", "datatype": "FP32", "shape": list(rows.shape),
              "data": rows.ravel().tolist()}  # fmt: skip
    return client.call("POST", "/v2/models/digits/infer", orjson.dumps({"inputs": [tensor]}))


def test_its_answers_are_torchs(client: Client, network: DigitsCnn) -> None:
    """For one row and for several, with the version's own headers."""
    for count in (1, 5):
        rows = np.random.default_rng(count).random((count, 1, 8, 8), np.float32)
        status, headers, told = ask(client, rows)
        with torch.inference_mode():
            expected = network(torch.from_numpy(rows)).numpy()
        assert (status, headers["x-variant"]) == (200, "safetensors")
        (output,) = told["outputs"]
        found = np.array(output["data"], np.float32).reshape(count, 10)
        # Torch may take another kernel with fewer threads.
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_its_signature_holds(client: Client) -> None:
    """What does not fit is refused before torch sees it, in the protocol's words."""
    status, _, told = ask(client, np.zeros((1, 64), np.float32))
    assert status == 400 and str(told["error"]).startswith("inputs[0].shape: must be")
    _, _, metadata = client.call("GET", "/v2/models/digits")
    assert metadata["platform"] == "pytorch_safetensors"
