"""Variants of versions that were trained in this process: every kind, every refusal, no Ray."""

import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.artifacts import download_artifacts
from mlflow.tracking import MlflowClient
from tests.spooled import spooled

from steelyard.bootstrap import Platform
from steelyard.bootstrap.registry import registry
from steelyard.domain.errors import Conflict, InvalidInput, Refused, Unavailable
from steelyard.domain.metering import RunAttempt, UsageWindow
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_workflows.booking.metering import charge_for, stopwatch
from steelyard_workflows.compress import compress
from steelyard_workflows.compression.claim import claimed
from steelyard_workflows.compression.forecast import forecast, lines
from steelyard_workflows.compression.order import ordered
from steelyard_workflows.evaluation.evidence import Subject, measure, subject
from steelyard_workflows.export import Artifact
from steelyard_workflows.measure import measure_again
from steelyard_workflows.register import Entry, register
from steelyard_workflows.tracking.run import tracked
from steelyard_workflows.tracking.totals import accounted
from steelyard_workflows.variants import bf16
from steelyard_workflows.variants.kind import Bench, Value

from .conftest import importable
from .trained_here import trained

pytestmark = [
    pytest.mark.integration,
    # mlflow 3.17 says so of its own type hints when it logs a model
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

OWN = '''
"""Two networks of the user's own: words through layers of attention, and a wide perceptron."""

import os

import numpy as np
from torch import nn

from steelyard_workflows.data import Dataset, divide
from steelyard_workflows.recipe import Recipe
from steelyard_workflows.recipes.transformer import Layer
from steelyard_workflows.workflow import Scaling, Train, Workflow


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(64, 32)
        self.layers = nn.ModuleList(Layer(32, 4, causal=False) for _ in range(4))
        self.classify = nn.Linear(32, 3)

    def forward(self, x):
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.classify(x.mean(1))


def words(workflow):
    if os.environ.get("OWN_DELETES"):
        from mlflow.tracking import MlflowClient

        uri = os.environ["OWN_DELETES"]
        MlflowClient(uri, uri).delete_model_version("gone", "1")
    draw = np.random.default_rng(3)
    labels = draw.integers(0, 3, 600)
    rows = draw.integers(0, 16, (600, 8)) + labels[:, None] * 16
    return divide(rows, labels.astype(np.int64), np.repeat([0, 1, 2], [400, 100, 100]))


def figures(workflow):
    draw = np.random.default_rng(3)
    rows = int(workflow.data.options.get("rows", 240))
    labels = draw.integers(0, 4, rows + 80)
    inputs = (np.eye(4, 64)[labels] * 4 + draw.normal(size=(rows + 80, 64))).astype(np.float32)
    if workflow.data.options.get("twins"):
        inputs[:rows] = inputs[rows + 40]
    purpose = np.repeat([0, 1, 2], [rows, 40, 40])
    return divide(inputs, labels.astype(np.int64), purpose)


def wide(workflow):
    width = int(workflow.data.options.get("width", 256))
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                         nn.Linear(width, 4))


def reader():
    train = Train(epochs=2, batch_size=32, learning_rate=0.003, optimizer="adamw", seed=1)
    return Recipe(Workflow(model="reader", recipe="own:reader", train=train,
                           scaling=Scaling(workers=1)), words, lambda _: Reader())


def plain():
    train = Train(epochs=2, batch_size=32, learning_rate=0.02, optimizer="sgd", momentum=0.9)
    return Recipe(Workflow(model="plain", recipe="own:plain", train=train,
                           scaling=Scaling(workers=1)), figures, wide)
'''


@dataclass(frozen=True)
class Case:
    """A kind on a model that it suits."""

    recipe: str
    kind: str
    relation: str
    ratio: float
    least_agreement: float = 0.9
    options: dict[str, Value] = field(default_factory=dict)


CASES = [
    Case("digits_cnn", "int8_static", "quantized", 0.3),
    Case("digits_cnn", "fp16", "quantized", 0.55, 0.99),
    Case("digits_cnn", "pruned_structured+int8_static", "pruned", 0.13),
    Case("digits_cnn", "pruned_unstructured", "pruned", 1.01, options={"sparsity": 0.8}),
    Case("own:plain", "int8_dynamic", "quantized", 0.3),
    Case("own:plain", "int4_weight_only", "quantized", 0.2),
    pytest.param(
        Case("own:reader", "layer_drop+distilled", "pruned", 0.6, 0.8), marks=pytest.mark.nightly
    ),
    Case("own:reader", "distilled+int8_dynamic", "distilled", 0.5, 0.8),
]


@pytest.fixture(scope="module", autouse=True)
def own_folder() -> Iterator[Path]:
    """The folder with the user's code, which is not part of this repository."""
    with importable("syc-own-") as folder:
        (folder / "own.py").write_text(OWN, encoding="utf-8")
        yield folder


@pytest.fixture(scope="module")
def parent(settings: Settings) -> Callable[..., ModelVersion]:
    """Trains a recipe in this process, as a worker would, and registers it; once a recipe."""
    known: dict[str, ModelVersion] = {}

    def make(recipe: str, text: str = "", spoil: Callable[[Any], None] = lambda _: None) -> Any:
        key = recipe + text
        if key not in known or spoil.__name__ != "<lambda>":
            known[key] = trained(settings, f"recipe: {recipe}\n{text}", spoil)
        return known[key]

    return make


def facts(settings: Settings, run_id: str, kind: type[Any]) -> list[Any]:
    """What a run has booked, of one kind."""
    return [fact for fact in spooled(settings, kind) if fact.run_id == run_id]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.recipe}-{case.kind}")
def test_every_kind_makes_a_version_of_a_model_that_it_suits(
    settings: Settings, parent: Callable[..., ModelVersion], case: Case
) -> None:
    """Smaller, close to its parent, linked, its recipe kept, all of its making booked to it."""
    before = parent(case.recipe)
    made = compress(before.name, case.kind, settings, case.options)
    assert (made.parent, made.variant, made.relation) == (before.version, case.kind, case.relation)
    assert made.size_bytes <= case.ratio * before.size_bytes
    assert made.evidence is not None and made.evidence.agreement is not None
    assert made.evidence.agreement >= case.least_agreement
    run = MlflowClient(settings.registry_uri).get_run(made.run_id)
    recipe = Path(download_artifacts(
        run_id=made.run_id, artifact_path="recipe.json", tracking_uri=settings.registry_uri
    )).read_bytes()  # fmt: skip
    assert hashlib.sha256(recipe).hexdigest() == made.recipe_sha256
    assert run.data.tags["steelyard.recipe_sha256"] == made.recipe_sha256
    booked = facts(settings, made.run_id, UsageWindow)
    learned = "distilled" in case.kind
    assert {one.activity for one in booked} == {"compress", "evaluate"} | (
        {"distill_label"} if learned else set()
    )
    assert all(one.flop is not None for one in booked)
    assert [a.outcome for a in facts(settings, made.run_id, RunAttempt)] == ["ok"]


@pytest.mark.skipif(find_spec("nncf") is None, reason="the extra openvino is not installed")
def test_an_openvino_version_is_measured_and_measured_again_by_openvino(
    settings: Settings, parent: Callable[..., ModelVersion]
) -> None:
    """The registry says what runs it, its evidence names that, and it holds here for the gates."""
    before = parent("digits_cnn")
    made = compress(before.name, "ov_int8", settings)
    assert made.runtime == "openvino" and made.servable
    assert made.size_bytes <= 0.35 * before.size_bytes
    assert made.evidence is not None and made.evidence.own is not None
    assert made.evidence.hardware["runtime"] == f"openvino {version('openvino')}"
    assert made.evidence.own.memory_bytes and made.evidence.own.nonzero
    assert made.evidence.agreement is not None and made.evidence.agreement >= 0.95
    assert registry(settings).version(made.model, made.version).runtime == "openvino"
    again = measure_again(made.model, made.version, settings)
    assert again.evidence.hardware == made.evidence.hardware
    examined = Platform(settings).gates.examine(made.model, made.version)
    assert examined.stale == () and examined.passed


def test_a_pruned_version_has_its_control_and_its_weights(
    settings: Settings, parent: Callable[..., ModelVersion]
) -> None:
    """The dense parent with the same extra epochs is measured; the new widths are kept."""
    from safetensors.torch import load_file

    made = compress(parent("digits_cnn").name, "pruned_structured", settings)
    page = MlflowClient(settings.registry_uri).get_run(made.run_id)
    assert 0.9 <= page.data.metrics["pruned_structured/control_accuracy"] <= 1
    assert made.parameters == page.data.metrics["pruned_structured/parameters"] < 60_000
    flops, before = made.flops, parent("digits_cnn").flops
    assert flops is not None and before is not None and flops.found == "counted"
    assert flops.forward is not None and before.forward is not None
    assert flops.forward < before.forward / 2
    kept = download_artifacts(run_id=made.run_id, artifact_path="weights.safetensors",
                              tracking_uri=settings.registry_uri)  # fmt: skip
    assert sum(t.numel() for t in load_file(kept).values()) == made.parameters


def test_a_sparse_version_says_that_it_is_not_faster_and_keeps_its_small_form(
    settings: Settings, parent: Callable[..., ModelVersion]
) -> None:
    """What is served is dense; what is stored beside it unpacks to the same weights."""
    from safetensors.torch import load_file

    from steelyard_workflows.variants.packing import unpack

    made = compress(parent("digits_cnn").name, "pruned_unstructured", settings, {"sparsity": 0.8})
    page = MlflowClient(settings.registry_uri).get_run(made.run_id)
    assert "no latency gain" in page.data.tags["steelyard.remarks"]

    def artefact(name: str) -> dict[str, torch.Tensor]:
        return load_file(download_artifacts(run_id=made.run_id, artifact_path=name,
                                            tracking_uri=settings.registry_uri))  # fmt: skip

    dense, packed = artefact("weights.safetensors"), artefact("sparse.safetensors")
    assert page.data.metrics["pruned_unstructured/sparse_bytes"] < 0.35 * made.size_bytes
    unpacked = unpack(packed)
    assert dense.keys() == unpacked.keys()
    assert all(torch.equal(dense[name], unpacked[name]) for name in dense)


@pytest.mark.parametrize("kind", ["int8_static", "pruned_structured+int8_static"])
def test_the_same_recipe_gives_the_same_bytes_and_is_made_once(
    settings: Settings, parent: Callable[..., ModelVersion], kind: str
) -> None:
    """A second time the version is shown; once it is deleted, making it again gives its digest."""
    name = parent("digits_cnn").name
    first = compress(name, kind, settings)
    assert compress(name, kind, settings) == first
    client = MlflowClient(settings.registry_uri)
    client.delete_model_version(first.model, str(first.version))
    second = compress(name, kind, settings)
    assert second.version != first.version
    assert (second.sha256, second.recipe_sha256) == (first.sha256, first.recipe_sha256)


@pytest.mark.parametrize(
    ("recipe", "kind", "options", "error", "match"),
    [
        ("digits_cnn", "int8_dynamic", {}, Refused, "convolutions .* 0.19"),
        ("digits_cnn", "layer_drop", {}, Refused, "no list of equal layers"),
        ("own:reader", "pruned_structured", {}, Refused, "layer_drop"),
        ("own:plain", "int8_static", {"calibration_rows": 63}, InvalidInput, "64 to 8192"),
        ("own:plain", "int8_static", {"calibration_split": "test"}, Refused, "leak"),
        ("own:plain", "int8_static", {"calibration_split": "validation"}, Refused, "leak"),
        ("own:plain", "int8_static", {"rows": 5}, InvalidInput, "int8_static.calibration_rows"),
        ("own:plain", "int8_static+int8_dynamic", {}, InvalidInput, "use one"),
        ("own:plain", "int8_static+pruned_structured", {}, InvalidInput, "comes last"),
        ("own:plain", "distilled+distilled", {}, InvalidInput, "twice"),
        ("own:plain", "pruned_structured+distilled", {"epochs": 1}, InvalidInput, "which one"),
        ("own:plain", "pruned_structured", {"ratio": "half"}, InvalidInput, "float"),
        ("own:plain", "pruned_structured", {"learning_rate": 10.0, "epochs": 9}, Refused,
         "diverged"),
    ],
)  # fmt: skip
def test_what_does_not_suit_is_refused_with_the_reason(
    settings: Settings, parent: Callable[..., ModelVersion], recipe: str, kind: str,
    options: dict[str, Value], error: type[Exception], match: str,
) -> None:  # fmt: skip
    """Nothing is registered, and nothing of a version is left."""
    before = parent(recipe)
    versions = registry(settings).versions(before.model)
    with pytest.raises(error) as caught:
        compress(before.name, kind, settings, options)
    faults = getattr(caught.value, "faults", ())
    assert re.search(match, " ".join([str(caught.value), *map(str, faults)]))
    assert registry(settings).versions(before.model) == versions
    folder = settings.run_dir / "compressions"
    assert not folder.exists() or not [p for p in folder.iterdir() if p.is_dir()]


@pytest.mark.parametrize("text", ["data: {options: {rows: 40}}", "data: {options: {twins: true}}"])
def test_too_few_calibration_rows_are_refused(
    settings: Settings, parent: Callable[..., ModelVersion], text: str
) -> None:
    """Below 64 training rows, not counting those that a version is also judged by."""
    with pytest.raises(Refused, match="64 are the least"):
        compress(parent("own:plain", text).name, "int8_static", settings)


def test_kept_weights_that_are_not_the_versions_are_refused(
    settings: Settings, parent: Callable[..., ModelVersion]
) -> None:
    """What is pruned or taught from must be what is registered, to the last bit."""

    def change(network: Any) -> None:
        with torch.no_grad():
            network[0].weight[0, 0] += 1e-3

    with pytest.raises(Refused, match="do not give its registered file"):
        compress(parent("own:plain", "model: changed", change).name, "pruned_structured", settings)


def test_two_at_once_make_one(settings: Settings, parent: Callable[..., ModelVersion]) -> None:
    """The second is told who is at it, and another recipe is not in its way."""
    name = parent("own:plain").name
    with (
        claimed(ordered(name, "fp16", {}, settings), settings),
        pytest.raises(Conflict, match=f"made by process {os.getpid()}"),
    ):
        compress(name, "fp16", settings)
    assert compress(name, "fp16", settings).variant == "fp16"


def test_a_parent_that_is_deleted_meanwhile_gets_no_variant(
    settings: Settings, parent: Callable[..., ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there when the compression began, and gone when it would be registered."""
    name = parent("own:reader", "model: gone").name
    monkeypatch.setenv("OWN_DELETES", settings.registry_uri)
    with pytest.raises(Refused, match="gone/1 was deleted while fp16"):
        compress(name, "fp16", settings)
    assert registry(settings).versions("gone") == []


def test_a_full_disk_in_the_middle_leaves_no_version(
    settings: Settings, parent: Callable[..., ModelVersion]
) -> None:
    """The message says what happened; what it cost is booked as a failed attempt."""
    before = parent("own:plain", "model: large\ndata: {options: {width: 2048}}")
    registry(settings).fetch(before, settings.cache_dir)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6 * 2**20, hard))
    try:
        with pytest.raises(Unavailable, match="could not be written"):
            compress(before.name, "fp16", settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert registry(settings).versions("large") == [before]
    client = MlflowClient(settings.registry_uri)
    experiment = client.get_experiment_by_name("steelyard/large")
    assert experiment is not None
    run = client.search_runs([experiment.experiment_id])[0]
    assert run.info.status == "FAILED"
    assert [a.outcome for a in facts(settings, run.info.run_id, RunAttempt)] == ["failed"]


def test_a_killed_compression_starts_again_cleanly_and_its_cost_is_kept(
    settings: Settings, parent: Callable[..., ModelVersion], own_folder: Path
) -> None:
    """Epochs that were over before the kill stay in the books; the next one makes the version."""
    before = parent("own:reader")
    runs = {v.run_id for v in registry(settings).versions(before.model)}
    program = (
        "import sys\nfrom pathlib import Path\nfrom steelyard.settings import Settings\n"
        "from steelyard_workflows.compress import compress\n"
        f"compress({before.name!r}, 'layer_drop', Settings(home=Path({str(settings.home)!r})), "
        "{'epochs': 20, 'control': False})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(own_folder)}
    process = subprocess.Popen([sys.executable, "-c", program], env=environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    killed = wait_for_epoch(settings, runs, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    made = compress(before.name, "layer_drop", settings, {"epochs": 20, "control": False})
    assert made.variant == "layer_drop" and made.run_id != killed
    assert MlflowClient(settings.registry_uri).get_run(killed).info.status == "FAILED"
    assert sum(w.items for w in facts(settings, killed, UsageWindow)) >= 400


def wait_for_epoch(settings: Settings, known: set[str], process: Any) -> str:
    """The run of the other process, once it has booked an epoch."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        for window in spooled(settings, UsageWindow):
            if window.run_id in known:
                continue
            if window.model == "reader" and window.items == 400:
                return str(window.run_id)
        time.sleep(0.05)
    pytest.fail("the other process booked no epoch")


def test_a_dry_run_shows_the_recipe_and_what_past_ones_took(
    settings: Settings, parent: Callable[..., ModelVersion]
) -> None:
    """Unknown before the first of its kind; after it, time and cost by the ledger's own rates."""
    name = parent("own:plain").name
    options: dict[str, Value] = {"epochs": 3, "control": False}
    order = ordered(name, "pruned_structured", options, settings)
    said = forecast(order, settings)
    assert said.estimate.wall_us is None and "unknown" in lines(said)[1]
    assert said.work.learned_rows == 3 * 240 and said.work.flop is not None
    with accounted(settings):
        made = compress(name, "pruned_structured", settings, options)
    after = forecast(ordered(name, "pruned_structured", {"epochs": 6}, settings), settings)
    assert after.estimate.wall_us is not None and after.estimate.typical.cost_nano
    assert json.loads(order.text)["steps"][0]["options"]["epochs"] == 3
    assert order.sha256 == made.recipe_sha256


def test_a_bf16_version_is_kept_by_digest_and_run_by_torch(
    settings: Settings, parent: Callable[..., ModelVersion], tmp_path: Path
) -> None:
    """Made and judged by torch, which emulates bfloat16 where the CPU has none; then servable."""
    before = parent("digits_cnn")
    order = ordered(before.name, "pruned_structured", {}, settings)  # it brings the weights
    with tracked(settings, order.source.workflow, "bf16", {}) as run:
        charge = charge_for(settings, run, before.model, 1, None)
        with stopwatch(settings, charge, f"compress/{run}", is_attempt=True) as watch:
            made = bf16.make(order.source, {}, Bench(tmp_path, watch))
        source = order.source.after(made)
        own = Subject(source.path, bf16.run(source))
        measured = measure(own, source.dataset.test, subject(order.source.path))
        content = made.path.read_bytes()
        artifact = Artifact(made.path, hashlib.sha256(content).hexdigest(), len(content),
                            before.signature)  # fmt: skip
        entry = Entry(before.model, run, "bf16", "quantized", made.flops, measured.evidence,
                      parent=before.version, runtime="torch")  # fmt: skip
        version = register(settings, artifact, entry)
    assert version.size_bytes < 0.55 * before.size_bytes
    assert measured.evidence.agreement is not None and measured.evidence.agreement >= 0.95
    assert measured.evidence.hardware["runtime"].startswith("torch")
    assert measured.evidence.hardware["datatype"] == "bf16"
    fetched = registry(settings).fetch(version, settings.cache_dir)
    assert (fetched.suffix, fetched.read_bytes()) == (".safetensors", content)
    assert Platform(settings).gates.examine(before.model, version.version).version == version


def test_weights_for_torch_are_served_with_the_network_that_is_registered(
    settings: Settings, parent: Callable[..., ModelVersion]
) -> None:
    """Equal to the ONNX file, measured as a replica runs them; what is not registered is told."""
    before = parent("digits_cnn")
    made = compress(before.name, "safetensors", settings)
    assert (made.runtime, made.relation, made.servable) == ("torch", "exported", True)
    assert made.evidence is not None and made.evidence.agreement == 1.0
    assert made.evidence.own is not None and made.evidence.own.load_s
    assert made.evidence.hardware["threads"] == "1"
    again = measure_again(made.model, made.version, settings)
    assert again.evidence.hardware == made.evidence.hardware
    assert Platform(settings).gates.examine(made.model, made.version).passed
    for kind, name, why in (
        ("safetensors", parent("own:plain").name, "Sequential is no registered architecture"),
        ("pruned_structured+safetensors", before.name, "Its tensors are another network's"),
    ):
        with pytest.raises(Refused, match=why):
            compress(name, kind, settings)
