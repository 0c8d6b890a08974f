"""A variant that is unsafe or unproven takes no traffic: neither deployed nor rolled out.

Networks, files and evidence are real and measured here; what is wrong with each was done to it as
somebody would who may write to the registry, to the ledger, or to the labels.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sqlalchemy import text
from tests.registry_client import client_of

from steelyard.bootstrap import Platform
from steelyard.domain.errors import Refused
from steelyard.domain.evidence import Evidence, document, evidence_digest
from steelyard.domain.model_version import Candidate, ModelVersion, Signature, TensorSpec
from steelyard.domain.presets import PRESETS, ByHand, adapted
from steelyard.ports.applications import ApplicationState
from steelyard.settings import Settings
from steelyard_workflows.data import Dataset
from steelyard_workflows.evaluation.evidence import measure, subject
from steelyard_workflows.recipes.digits_cnn import digits_cnn

pytestmark = pytest.mark.integration

PLAN = adapted(PRESETS["fast"], ByHand(weights=(50, 100), bake_s=0, min_requests=0))
ROWS, LOGITS = TensorSpec("x", "FP32", (-1, 1, 8, 8)), TensorSpec("y", "FP32", (-1, 10))
TRAINED, GOOD, SHUFFLED = 1, 2, 3
Wrong = Callable[[Platform], None]
Command = Callable[..., tuple[int, str, str]]


def learned(inputs: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Weights [65, 10] of a linear classifier by least squares."""
    rows = np.c_[inputs.reshape(len(inputs), -1), np.ones(len(inputs))]
    weights: NDArray[np.float32] = np.linalg.lstsq(rows, np.eye(10)[labels], rcond=1e-6)[0]
    return weights.astype(np.float32)


def file_of(weights: NDArray[np.float32]) -> bytes:
    """The classifier as ONNX; its logits are ten times as far apart, for surer probabilities."""
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])]  # fmt: skip
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]),
             helper.make_node("Gemm", ["flat", "w", "b"], ["y"])]  # fmt: skip
    values = [numpy_helper.from_array(v, n) for n, v in (("w", 10 * weights[:-1]),
                                                         ("b", 10 * weights[-1]))]  # fmt: skip
    opset = [helper.make_opsetid("", 20)]
    graph = helper.make_graph(nodes, "linear", ends[:1], ends[1:], values)
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    content: bytes = model.SerializeToString()
    return content


@dataclass(frozen=True)
class Made:
    """A file with what was measured of it."""

    content: bytes
    evidence: Evidence


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Mapping[int, Made]:
    """A classifier, a variant of it with coarser weights, and one of shuffled labels."""
    recipe, folder = digits_cnn(), tmp_path_factory.mktemp("made")
    rows: Dataset = recipe.data(recipe.workflow)
    right = learned(rows.train.inputs, rows.train.labels)
    shuffled = np.random.default_rng(0).permutation(rows.train.labels)
    networks = {
        TRAINED: right,
        GOOD: np.round(right, 4),
        SHUFFLED: learned(rows.train.inputs, shuffled),
    }
    found: dict[int, Made] = {}
    for number, weights in networks.items():
        path = folder / f"{number}.onnx"
        path.write_bytes(file_of(weights))
        parent = subject(folder / f"{TRAINED}.onnx") if number != TRAINED else None
        evidence = measure(subject(path), rows.test, parent).evidence
        found[number] = Made(path.read_bytes(), evidence)
    return found


@pytest.fixture
def platform(
    made: Mapping[int, Made], untouched_home: Path, copy_of: Callable[..., Platform]
) -> Platform:
    """A platform with the three registered; their evidence is in the ledger."""
    one = copy_of(untouched_home, ray_address="ray://elsewhere:10001")
    for number, what in made.items():
        registered(one, what.content, what.evidence, number)
    return one


def registered(platform: Platform, content: bytes, evidence: Evidence, number: int) -> None:
    """What training and compressing do at their end."""
    client = client_of(platform)
    known = client.get_experiment_by_name("digits")
    experiment = known.experiment_id if known else client.create_experiment(
        "digits", platform.settings.artifact_root.as_uri()
    )  # fmt: skip
    info = client.create_run(experiment).info
    folder = Path(urlparse(info.artifact_uri).path) / "model"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    trained = number == TRAINED
    version = platform.registry.register(
        Candidate(
            "digits", info.run_id, f"{info.artifact_uri}/model", "model.onnx",
            sha256(content).hexdigest(), len(content), "fp32" if trained else "int8_static",
            "trained" if trained else "quantized", Signature((ROWS,), (LOGITS,)),
            parent=None if trained else TRAINED, evidence=evidence,
        )
    )  # fmt: skip
    platform.gates.learn(version)
    assert version.version == number


def stored(platform: Platform, number: int = GOOD) -> Path:
    """The file of a version where the registry keeps it."""
    return Path(urlparse(version_of(platform, number).source).path) / "model.onnx"


def version_of(platform: Platform, number: int = GOOD) -> ModelVersion:
    """A version as the registry shows it."""
    return platform.registry.version("digits", number)


def tag(platform: Platform, **values: str) -> None:
    """What somebody does to the good variant who may write to the registry."""
    for name, value in values.items():
        client_of(platform).set_model_version_tag("digits", str(GOOD), f"steelyard.{name}", value)


def flip_a_bit(platform: Platform) -> None:
    """In the file where the registry keeps it; size and time stay as they were."""
    path = stored(platform)
    content, times = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def take_it_away(platform: Platform) -> None:
    """The artefact store lost it."""
    stored(platform).unlink()


def swap_with_its_digest(platform: Platform) -> None:
    """Another file and, in the registry, its digest."""
    content = file_of(np.ones((65, 10), np.float32))
    stored(platform).write_bytes(content)
    tag(platform, sha256=sha256(content).hexdigest(), size_bytes=str(len(content)))


def edit_the_record(platform: Platform) -> None:
    """A better figure, with the digest that belongs to it."""
    evidence = version_of(platform).evidence
    assert evidence is not None
    forged = replace(evidence, accuracy=1.0)
    tag(platform, evidence=json.dumps(document(forged)), evidence_sha256=evidence_digest(forged))


def edit_the_ledger(platform: Platform) -> None:
    """A better figure in the ledger's table, which nobody may change, by whoever owns the file."""
    with platform.engine.begin() as connection:
        connection.execute(text("drop trigger evidence_no_update"))
        found = connection.execute(
            text("update evidence set document = replace(document, 'parent_only_right', 'gone') "
                 "where version = :version"), {"version": GOOD},
        )  # fmt: skip
        assert found.rowcount == 1


def run_by_another(platform: Platform) -> None:
    """The same file, run by what it was not measured with."""
    tag(platform, runtime="openvino")


def call_it_an_orphan(platform: Platform) -> None:
    """Without a parent nobody would ask whether it is worse than that: here, much worse."""
    evidence = replace(platform.gates.records(version_of(platform))[0].evidence,
                       parent_only_right=200)  # fmt: skip
    registered(platform, stored(platform).read_bytes(), evidence, 4)
    client_of(platform).delete_model_version_tag("digits", "4", "steelyard.parent_version")


def shuffle_its_labels(platform: Platform) -> None:
    """It was: the third version learned from shuffled labels."""


def let_it_get_stale(platform: Platform) -> None:
    """Measured by another runtime's version, for a model that promises a latency."""
    platform.gates.set_policy("digits", {"latency_class_ms": 1_000.0}, "ada", "a contract")
    evidence = platform.gates.records(version_of(platform))[0].evidence
    old = {**evidence.hardware, "runtime": "onnxruntime 1.0"}
    registered(platform, stored(platform).read_bytes(), replace(evidence, hardware=old), 4)


CASES: list[tuple[Wrong, int, str]] = [
    (shuffle_its_labels, SHUFFLED, "chance|quality fail"),
    (flip_a_bit, GOOD, "its SHA-256 is [0-9a-f]{64}, registered was [0-9a-f]{64}"),
    (take_it_away, GOOD, "is gone"),
    (swap_with_its_digest, GOOD, "is not the one that was measured"),
    (edit_the_record, GOOD, r"changed in the registry \(accuracy\)"),
    (edit_the_ledger, GOOD, "The ledger's evidence of digits/2 was changed"),
    (run_by_another, GOOD, "would be run by openvino, measured was onnxruntime"),
    (call_it_an_orphan, 4, "quality fail"),
    (let_it_get_stale, 4, r"latency_class unknown .*onnxruntime 1\.0"),
]
each_wrong = pytest.mark.parametrize(
    ("wrong", "number", "why"), CASES, ids=[case[0].__name__ for case in CASES]
)


@each_wrong
def test_it_is_not_deployed(platform: Platform, wrong: Wrong, number: int, why: str) -> None:
    """Refused by the command that asks for it, with the reason, and nothing was begun."""
    wrong(platform)
    with pytest.raises(Exception, match=why) as caught:
        platform.rollouts.deploy("digits", number, "ada")
    assert type(caught.value).__name__ in ("Refused", "NotFound")
    assert platform.rollout_store.open_rollout("digits") is None


@each_wrong
def test_it_is_not_rolled_out(platform: Platform, wrong: Wrong, number: int, why: str) -> None:
    """Beside a version that serves: its traffic stays as it is."""
    serve(platform, TRAINED)
    before = platform.rollout_store.route("digits")
    wrong(platform)
    with pytest.raises(Exception, match=why):
        platform.rollouts.start("digits", number, PLAN, "ada")
    assert platform.rollout_store.open_rollout("digits") is None
    assert platform.rollout_store.route("digits") == before


@pytest.mark.parametrize(
    "wrong", [flip_a_bit, swap_with_its_digest, edit_the_record, edit_the_ledger, run_by_another]
)
def test_no_reason_lets_changed_bytes_or_records_in(platform: Platform, wrong: Wrong) -> None:
    """An operator passes over gates, which are about quality; not over what was changed."""
    wrong(platform)
    with pytest.raises(Refused):
        platform.rollouts.deploy("digits", GOOD, "ada", "the fair is tomorrow")
    assert platform.rollout_store.open_rollout("digits") is None


def serve(platform: Platform, number: int) -> None:
    """Deploy a version, as the controller would when it answers."""
    platform.rollouts.deploy("digits", number, "ada")
    token = platform.rollout_store.leases.acquire("controller", "test", platform.clock.now_us(),
                                                 10**12)  # fmt: skip
    assert token is not None
    for _ in range(2):
        (turn,) = platform.rollouts.turns.all(
            {("digits", number): ApplicationState("ready")}, 0, token
        )
        platform.rollouts.confirm("digits", turn.after.generation, token)
    assert platform.rollouts.stable("digits") == number


def test_a_sound_variant_is_deployed_and_rolled_out(platform: Platform, tmp_path: Path) -> None:
    """The same way, with nothing wrong: each refusal is about what was done, not about the test."""
    shutil.copytree(platform.settings.home, tmp_path / "twin")
    serve(platform, TRAINED)
    assert platform.rollouts.start("digits", GOOD, PLAN, "ada").candidate == GOOD
    twin = Platform(Settings(home=tmp_path / "twin"))
    assert twin.rollouts.deploy("digits", GOOD, "ada").candidate == GOOD
    twin.engine.dispose()


@pytest.fixture
def command(
    platform: Platform, typed_at: Callable[..., Command], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Types a command: exit code, standard output, standard error."""
    monkeypatch.setenv("STEELYARD_RAY_ADDRESS", platform.settings.ray_address)
    return typed_at(platform.settings.home)


def test_a_person_reads_why_at_the_command(platform: Platform, command: Command) -> None:
    """Exit code 1, both digests, and what to do; a good copy in the cache does not hide it."""
    platform.registry.fetch(version_of(platform), platform.settings.cache_dir)
    registered_as = version_of(platform).sha256
    flip_a_bit(platform)
    found = sha256(stored(platform).read_bytes()).hexdigest()
    for words in (("deploy", "digits/2"), ("models", "promote-check", "digits/2")):
        code, out, told = command(*words)
        assert code == 1 and not out
        assert found in told and registered_as in told and "Register a new version" in told
        assert "Downloading" not in told
    serve(platform, TRAINED)
    code, out, err = command("rollout", "start", "digits/2")
    assert code == 1 and not out and found in err


def test_what_was_swapped_after_the_command_is_not_fetched(
    platform: Platform, tmp_path: Path
) -> None:
    """The check at the command is a courtesy; the bytes that are loaded are checked again."""
    platform.rollouts.deploy("digits", GOOD, "ada")
    flip_a_bit(platform)
    with pytest.raises(Refused, match="was changed: its SHA-256"):
        platform.registry.fetch(version_of(platform), tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.onnx"))
