"""What may not take traffic: each refusal, with what a person gets to read."""

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from onnx import TensorProto, helper
from tests.registry_client import client_of

from steelyard.bootstrap import Platform
from steelyard.bootstrap.runtimes import hardware_profile
from steelyard.cli.serving import may_override
from steelyard.domain.errors import InvalidInput, Refused
from steelyard.domain.evidence import Evidence, Figures, document, evidence_digest
from steelyard.domain.model_version import Candidate, ModelVersion, Signature
from steelyard.domain.presets import PRESETS
from steelyard.ports.applications import ApplicationState
from steelyard.settings import Settings

pytestmark = pytest.mark.integration

ENDS = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
SAME = helper.make_node("Identity", ["x"], ["y"])
BYTES = helper.make_model(helper.make_graph([SAME], "g", ENDS[:1], ENDS[1:])).SerializeToString()
SHA256 = sha256(BYTES).hexdigest()
GOOD = Evidence(
    size_bytes=100, accuracy=0.97, examples=360, latency_ms_p50=0.2, latency_ms_p95=0.3,
    hardware=hardware_profile(), artifact_sha256=SHA256, labels=360, chance=0.1,
    accuracy_low=0.95, accuracy_high=0.98,
    own=Figures(energy_mj=1.0, energy_method="modelled_load"),
)  # fmt: skip
VARIANT = replace(
    GOOD, size_bytes=30, parent_size_bytes=100, parent_accuracy=0.97, agreement=0.99,
    parent_latency_ms_p50=0.2, parent_latency_ms_p95=0.3, parent_only_right=2, own_only_right=1,
    parent=Figures(energy_mj=1.5, energy_method="modelled_load"),
)  # fmt: skip
Command = Callable[..., tuple[int, str, str]]
VERSIONS: dict[str, tuple[Evidence | None, int | None]] = {
    "trained": (GOOD, None),
    "good": (VARIANT, 1),
    "unmeasured": (None, 1),
    "worse": (replace(VARIANT, parent_only_right=60), 1),
    "few labels": (replace(VARIANT, labels=30), 1),
    "not compared": (replace(VARIANT, parent_only_right=None), 1),
    "measured alone": (GOOD, 1),
    "guessing": (replace(VARIANT, accuracy=0.1, accuracy_low=0.08, accuracy_high=0.13), 1),
    "other bytes": (replace(VARIANT, artifact_sha256="b" * 64), 1),
    "stale": (
        replace(VARIANT, hardware={**hardware_profile(), "runtime": "onnxruntime 1.0"}), 1
    ),
    "chance unknown": (replace(GOOD, chance=None), None),
    "no ONNX file": (VARIANT, 1),
}  # fmt: skip
NUMBERS = {name: number for number, name in enumerate(VERSIONS, 1)}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one version of each kind in its registry; none is in the ledger yet."""
    home = tmp_path_factory.mktemp("gates") / "home"
    platform = Platform(Settings(home=home))
    client = client_of(platform)
    experiment = client.create_experiment("digits", (home / "artifacts").as_uri())
    for name, (evidence, parent) in VERSIONS.items():
        info = client.create_run(experiment).info
        folder = Path(urlparse(info.artifact_uri).path) / "model"
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(BYTES)
        platform.registry.register(
            Candidate(
                "digits", info.run_id, f"{info.artifact_uri}/model",
                "model.safetensors" if name == "no ONNX file" else "model.onnx", SHA256,
                len(BYTES), "int8_static" if parent else "fp32",
                "quantized" if parent else "trained", Signature((), ()), parent=parent,
                evidence=evidence,
            )
        )  # fmt: skip
    platform.engine.dispose()
    return home


@pytest.fixture
def platform(home: Path, copy_of: Callable[..., Platform]) -> Platform:
    """A platform of one's own over a copy of that home."""
    return copy_of(home)


@pytest.fixture
def command(platform: Platform, typed_at: Callable[..., Command]) -> Command:
    """Types a command, without the key: exit code, standard output, standard error."""
    return typed_at(platform.settings.home)


def version_of(platform: Platform, name: str) -> ModelVersion:
    """One of the versions."""
    return platform.registry.version("digits", NUMBERS[name])


def make_operator(platform: Platform) -> None:
    """What `steelyard up` does: the key is there, for whoever may read it."""
    platform.settings.secret_dir.mkdir(parents=True, exist_ok=True)
    (platform.settings.secret_dir / "api.token").write_text("a key", encoding="ascii")


def edit(platform: Platform, version: ModelVersion, **figures: Any) -> None:
    """What somebody with access to the registry does to a version's record."""
    client = client_of(platform)
    assert version.evidence is not None
    forged = replace(version.evidence, **figures)
    tags = {"evidence": json.dumps(document(forged)), "evidence_sha256": evidence_digest(forged)}
    for key, value in tags.items():
        client.set_model_version_tag("digits", str(version.version), f"steelyard.{key}", value)


def test_a_version_that_passes_is_deployed(platform: Platform) -> None:
    """A trained one has no parent to be compared with; its variant is compared, and passes."""
    assert platform.rollouts.deploy("digits", 1, "ada").candidate == 1
    assert platform.gates.examine("digits", 2).passed


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("unmeasured", "has no measured evidence"),
        ("worse", "quality fail"),
        ("few labels", "quality unknown"),
        ("not compared", "quality unknown"),
        ("measured alone", "quality unknown"),
        ("guessing", "chance fail"),
        ("other bytes", "is not the one that was measured"),
        ("chance unknown", "chance unknown"),
        ("no ONNX file", r"replicas load \.onnx in onnxruntime, \.onnx in openvino, "),
    ],
)
def test_a_version_without_proof_is_not_deployed(platform: Platform, name: str, why: str) -> None:
    """Unmeasured, worse than its parent or than guessing, not told apart, or of other bytes."""
    with pytest.raises(Refused, match=why):
        platform.rollouts.deploy("digits", NUMBERS[name], "ada")
    assert platform.rollout_store.open_rollout("digits") is None


def test_a_forged_record_is_refused_even_to_an_operator(platform: Platform) -> None:
    """The message names the field and both digests; no reason opens that gate."""
    version = version_of(platform, "worse")
    platform.gates.learn(version)
    edit(platform, version, parent_only_right=0)
    for override in (None, "trust me"):
        with pytest.raises(Refused, match=r"\(parent_only_right\)") as refused:
            platform.rollouts.deploy("digits", version.version, "ada", override)
    assert evidence_digest(replace(VARIANT, parent_only_right=60)) in refused.value.message
    assert evidence_digest(replace(VARIANT, parent_only_right=0)) in refused.value.message
    assert platform.gates.standing(version_of(platform, "worse")).state == "changed"


def test_a_record_that_nobody_can_read_is_refused(platform: Platform) -> None:
    """It is not what the version was registered with, whatever it is."""
    platform.gates.learn(version_of(platform, "trained"))
    client = client_of(platform)
    client.set_model_version_tag("digits", "1", "steelyard.evidence", '{"size_bytes": ')
    with pytest.raises(Refused, match="was changed in the registry"):
        platform.rollouts.deploy("digits", 1, "ada")


def test_a_version_whose_tags_nobody_can_read_is_refused(platform: Platform) -> None:
    """It alone: the others are listed and learned."""
    numbers = [version.version for version in platform.registry.versions("digits")]
    client_of(platform).set_model_version_tag("digits", "1", "steelyard.size_bytes", "much")
    client_of(platform).delete_model_version_tag("digits", "2", "steelyard.signature")
    for number, why in ((1, "'much'"), (2, "'signature'")):
        with pytest.raises(Refused, match=f"digits/{number} cannot be read: .*{why}"):
            platform.rollouts.deploy("digits", number, "ada")
    assert [v.version for v in platform.registry.versions("digits")] == numbers[2:]
    platform.learn_versions()
    known = {row["version"] for row in platform.catalog.versions("digits")}
    assert known == set(numbers[2:])


def test_a_flipped_bit_is_refused(platform: Platform, tmp_path: Path) -> None:
    """The registry hands out only the bytes that were measured."""
    version = version_of(platform, "few labels")
    assert platform.registry.fetch(version, tmp_path / "sound").read_bytes() == BYTES
    stored = Path(urlparse(version.source).path) / "model.onnx"
    stored.write_bytes(BYTES[:-1] + bytes([BYTES[-1] ^ 1]))
    with pytest.raises(Refused, match="was changed: its SHA-256"):
        platform.registry.fetch(version, tmp_path / "flipped")


def test_stale_evidence_opens_no_gate_of_speed_until_measured_again(
    platform: Platform, command: Command
) -> None:
    """Figures of another runtime are shown as stale; a new record from here counts."""
    make_operator(platform)
    number = NUMBERS["stale"]
    asked = ("models", "gates", "digits", "--max-latency-ratio", "2", "--reason", "slow phones")
    assert command(*asked)[0] == 0
    with pytest.raises(Refused, match=r"latency unknown .*onnxruntime 1\.0"):
        platform.rollouts.deploy("digits", number, "ada")
    code, told, _ = command("models", "promote-check", f"digits/{number}", "--json")
    assert code == 1 and json.loads(told)["stale"]
    _, told, _ = command("models", "show", f"digits/{number}", "--json")
    assert json.loads(told)["versions"][0]["evidence_state"] == "stale"
    platform.gates.add(version_of(platform, "stale"), VARIANT, "ada")
    assert platform.rollouts.deploy("digits", number, "ada").candidate == number
    _, told, _ = command("models", "show", f"digits/{number}", "--json")
    assert json.loads(told)["versions"][0]["evidence_state"] == "fresh"


def test_a_measurement_of_other_bytes_is_not_kept(platform: Platform) -> None:
    """It would say nothing of the version."""
    with pytest.raises(Refused, match="not the file"):
        platform.gates.add(version_of(platform, "good"), replace(VARIANT, artifact_sha256="c"), "a")


def test_promote_check_says_each_verdict_with_its_figures(command: Command) -> None:
    """Exit code 0 and 1; for people and as JSON."""
    code, told, _ = command("models", "promote-check", "digits/2", "--json")
    found = {f["gate"]: f for f in json.loads(told)["findings"]}
    assert code == 0 and found["quality"]["verdict"] == "pass"
    assert found["quality"]["found"] <= found["quality"]["limit"] == 0.03
    code, told, _ = command("models", "promote-check", f"digits/{NUMBERS['worse']}")
    assert code == 1 and "fail" in told and "60 only its parent" in told
    assert command("models", "promote-check", "digits")[0] == 2
    assert command("models", "promote-check", "digits/99")[0] == 1


def test_a_model_s_gates_are_set_with_a_reason_and_kept(
    platform: Platform, command: Command
) -> None:
    """By an operator only; the history names who, when and why; a gate can be taken away."""
    ask = ("models", "gates", "digits", "--max-quality-loss", "0.005")
    assert command(*ask, "--reason", "paying users")[0] == 1
    make_operator(platform)
    assert command(*ask)[0] == 2
    assert command("models", "gates", "digits", "--max-size-ratio", "-1", "--reason", "x")[0] == 2
    assert command("models", "gates", "nothing")[0] == 1
    code, told, _ = command(*ask, "--max-size-ratio", "0.5", "--reason", "paying users", "--json")
    first = json.loads(told)
    assert code == 0 and first["history"][0]["reason"] == "paying users"
    assert first["policy"]["max_quality_loss"] == 0.005 and first["history"][0]["actor"]
    _, told, _ = command("models", "gates", "digits", "--without", "max-size-ratio",
                         "--reason", "not needed", "--json")  # fmt: skip
    second = json.loads(told)
    assert second["policy"]["max_size_ratio"] is None and len(second["history"]) == 2
    assert command("models", "gates", "digits", "--without", "beauty", "--reason", "x")[0] == 2


def test_an_override_is_in_the_promotion_history(platform: Platform) -> None:
    """Who let which version in, why, and what was not passed."""
    number = NUMBERS["chance unknown"]
    with pytest.raises(InvalidInput, match="reason"):
        platform.rollouts.deploy("digits", number, "ada", "  ")
    rollout = platform.rollouts.deploy("digits", number, "ada", "the fair is tomorrow")
    first = platform.rollout_store.events(rollout.rollout_id)[0]
    assert (first["verb"], first["actor"]) == ("override", "ada")
    now, store = platform.clock.now_us(), platform.rollout_store
    token = store.leases.acquire("controller", "test", now, 60_000_000)
    assert token is not None
    states = {("digits", number): ApplicationState("ready")}
    for _ in range(2):
        (turn,) = platform.rollouts.turns.all(states, 0, token)
        platform.rollouts.confirm("digits", turn.after.generation, token)
    (promotion,) = store.promotions("digits")
    assert "the fair is tomorrow" in promotion.reason and "chance unknown" in promotion.reason
    assert promotion.actor == "ada" and store.first_break() is None


def test_only_an_operator_overrides(platform: Platform) -> None:
    """Whoever may not read the API's key is told so; without an override nobody is asked."""
    may_override(platform.settings, None)
    with pytest.raises(Refused, match="Only an operator"):
        may_override(platform.settings, "please")
    make_operator(platform)
    may_override(platform.settings, "please")


def test_a_rollout_is_gated_too(seeded: Platform) -> None:
    """The seeded model is served; a stricter policy shuts its variant out of a new rollout."""
    seeded.gates.set_policy("digits", {"max_quality_loss": 0.001}, "ada", "paying users")
    with pytest.raises(Refused, match="quality unknown"):
        seeded.rollouts.start("digits", 2, PRESETS["fast"], "ada")
