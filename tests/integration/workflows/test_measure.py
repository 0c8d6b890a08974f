"""Evidence of a really trained version and its variant, and what measuring again adds. No Ray."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields, replace

import pytest
from mlflow.tracking import MlflowClient
from sqlalchemy import func, select

from steelyard.adapters.sql.tables.measured import usage_window
from steelyard.bootstrap import Platform
from steelyard.domain.errors import Refused
from steelyard.domain.model_version import Candidate, ModelVersion
from steelyard.settings import Settings
from steelyard_serving.protocols import open_inference
from steelyard_workflows.compress import compress
from steelyard_workflows.measure import measure_again

from .trained_here import trained

pytestmark = [
    pytest.mark.integration,
    # MLflow warns of a type hint of its own when it is imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def platform(settings: Settings) -> Iterator[Platform]:
    """Digits/1, trained in this process, and its INT8 form digits/2."""
    trained(settings, "recipe: digits_cnn\nmodel: digits\n")
    compress("digits/1", "int8_static", settings)
    made = Platform(settings)
    yield made
    made.engine.dispose()


@pytest.fixture
def ask(platform: Platform, typed_at: Callable[..., Ask]) -> Ask:
    """Types a command: exit code, standard output, standard error."""
    return typed_at(platform.settings.home)


def test_evidence_is_in_the_ledger_as_soon_as_a_version_is_registered(platform: Platform) -> None:
    """The same record as the registry's, of the very file, with energy by the declared power."""
    for number in (1, 2):
        version = platform.registry.version("digits", number)
        (record,) = platform.gates.records(version)
        assert record.origin == "registered" and record.evidence == version.evidence
        assert record.evidence.artifact_sha256 == version.sha256
        assert record.evidence.own is not None and record.evidence.own.energy_mj


def test_a_really_quantized_version_passes_the_default_gates(ask: Ask) -> None:
    """Trained and variant may take traffic; the check says so with figures."""
    for name in ("digits/1", "digits/2"):
        code, told, _ = ask("models", "promote-check", name, "--json")
        assert code == 0, told
    gates = {f["gate"]: f for f in json.loads(told)["findings"]}
    assert gates["quality"]["verdict"] == gates["chance"]["verdict"] == "pass"


def test_measuring_again_adds_a_record_and_books_its_work(platform: Platform, ask: Ask) -> None:
    """The registry's record stays, the new one counts, and the version pays for it."""
    version = platform.registry.version("digits", 2)
    before = _evaluations(platform, version.run_id)
    code, told, _ = ask("models", "measure", "digits/2", "--json")
    assert code == 0
    first, second = platform.gates.records(version)
    assert json.loads(told)["sha256"] == second.sha256 != first.sha256
    assert (first.origin, second.origin) == ("registered", "measured")
    assert second.evidence.accuracy == first.evidence.accuracy
    assert platform.gates.examine("digits", 2).record == second
    assert _evaluations(platform, version.run_id) == before + 1
    assert ask("models", "measure", "digits/9")[0] == 1
    assert ask("models", "measure", "digits")[0] == 2


def test_a_variant_has_its_parents_training_envelope(platform: Platform) -> None:
    """The digits go from 0 to 1; an edited envelope is none, and the version says so."""
    parent, variant = (platform.registry.version("digits", number) for number in (1, 2))
    assert parent.envelope is not None and parent.envelope == variant.envelope
    (bounds,) = parent.envelope.inputs
    assert (bounds.slots, bounds.low, bounds.high) == ("channel", (0.0,), (1.0,))
    assert metadata(parent) == metadata(variant) != {"training_envelope": None}
    uri = platform.settings.registry_uri
    client, tag = MlflowClient(uri, uri), "steelyard.envelope"
    registered = client.get_model_version("digits", "2").tags[tag]
    client.set_model_version_tag("digits", "2", tag, registered.replace("1.0", "9.0"))
    assert metadata(platform.registry.version("digits", 2)) == {"training_envelope": None}
    client.set_model_version_tag("digits", "2", tag, registered)
    assert platform.registry.version("digits", 2) == variant


def test_other_test_rows_are_refused(platform: Platform) -> None:
    """Figures on other rows cannot be compared with those that are there."""
    first = platform.registry.version("digits", 1)
    assert first.evidence is not None
    other = replace(first.evidence, data_sha256="0" * 64)
    known = {f.name: getattr(first, f.name) for f in fields(Candidate)}
    judged = platform.registry.register(Candidate(**known | {"evidence": other}))
    with pytest.raises(Refused, match=f"test rows of {judged.name} have changed"):
        measure_again("digits", judged.version, platform.settings)


def test_a_flipped_bit_is_not_measured(platform: Platform) -> None:
    """The file that is not the registered one is refused before anything is measured."""
    version = platform.registry.version("digits", 1)
    shutil.rmtree(platform.settings.cache_dir, ignore_errors=True)
    stored = [
        path for path in platform.settings.artifact_root.rglob("*.onnx")
        if path.stat().st_size == version.size_bytes
    ]  # fmt: skip
    content = stored[0].read_bytes()
    stored[0].write_bytes(bytes([content[0] ^ 1]) + content[1:])
    try:
        with pytest.raises(Refused, match="was changed"):
            measure_again("digits", 1, platform.settings)
    finally:
        stored[0].write_bytes(content)


def metadata(version: ModelVersion) -> object:
    """What the version's own metadata says of what rows are checked against."""
    return json.loads(open_inference.metadata(version).body)["parameters"]


def _evaluations(platform: Platform, run_id: str) -> int:
    """How many windows of evaluation a run was booked."""
    platform.metering.collect()
    u = usage_window.c
    query = select(func.count()).where(u.run_id == run_id, u.activity == "evaluate")
    with platform.engine.connect() as connection:
        return connection.execute(query).scalar_one()
