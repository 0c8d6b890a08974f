"""After training, on a registered version: sets, variants, gates, a rollout; all of it repeatable.

No Ray: the version is trained in this process and published as a run publishes it.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from tests.learning import learn
from tests.spooled import spooled

from steelyard.bootstrap import Platform
from steelyard.bootstrap.registry import registry
from steelyard.cli.app import run
from steelyard.domain.errors import SteelyardError
from steelyard.domain.metering import SupplyWindow, UsageWindow
from steelyard.domain.model_version import ModelVersion
from steelyard.domain.presets import PRESETS
from steelyard.ports.applications import ApplicationState
from steelyard.settings import Settings
from steelyard_workflows.environment import prepare
from steelyard_workflows.workflow import Workflow
from steelyard_workflows.workflow_file import parse

pytestmark = [
    pytest.mark.integration,
    # MLflow warns of type hints in its own modules when they are imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

F = TypeVar("F")
SETS = """
import numpy as np
from steelyard_workflows import Split
from steelyard_workflows.recipes.digits_cnn import digits_cnn

def faint(workflow):
    test = digits_cnn().data(workflow).test
    return Split((test.inputs * 0.9).astype(np.float32), test.labels, test.rows)

def inverted(workflow):
    test = digits_cnn().data(workflow).test
    return Split(np.ascontiguousarray(test.inputs[::-1]), test.labels, test.rows)
"""
FAINT = "evaluations: [{name: faint, rows: 'after_sets:faint', min_accuracy: 0.5}]\n"
SMALL = "variants: [{kind: int8_static, gates: {max_quality_loss: 0.1, max_size_ratio: 0.5}}]\n"


@pytest.fixture(scope="module")
def settings(new_home: Callable[[Path], Path]) -> Iterator[Settings]:
    """A home of our own with the user's functions beside it; no platform is up."""
    home = new_home(Path(tempfile.mkdtemp(prefix="sya-")))
    (home / "after_sets.py").write_text(SETS, encoding="utf-8")
    sys.path.insert(0, str(home))
    own = Settings(home=home)
    prepare(own)
    yield own
    sys.path.remove(str(home))
    sys.modules.pop("after_sets", None)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def trained(settings: Settings) -> ModelVersion:
    """``digits/1`` after a few epochs, with its weights and its evidence."""
    from steelyard_workflows.loading import loaded
    from steelyard_workflows.publish import publish
    from steelyard_workflows.tracking import run_report
    from steelyard_workflows.tracking.run import tracked

    torch.set_num_threads(1)
    workflow = asking("team: vision\n")
    made = loaded(workflow)
    with tracked(settings, workflow, "train-digits_cnn", {"steelyard.kind": "train"}) as run_id:
        learn(made.network, made.dataset.train, epochs=4)
        run_report.keep_weights(settings, run_id, made.network)
        return publish(workflow, made.profile, settings, run_id, made.network, made.dataset)


def asking(more: str = "") -> Workflow:
    """The digits with something afterwards."""
    return parse(f"recipe: digits_cnn\n{more}")


def booked(settings: Settings, kind: type[F], run_id: str) -> list[F]:
    """The facts of one kind about a run."""
    return [f for f in spooled(settings, kind) if getattr(f, "run_id", run_id) == run_id]


def page(settings: Settings, run_id: str) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics and tags of a run, as MLflow shows them."""
    from mlflow.tracking import MlflowClient

    data = MlflowClient(settings.registry_uri).get_run(run_id).data
    return data.metrics, data.tags


def evaluated(settings: Settings, run_id: str) -> list[UsageWindow]:
    """What was booked as evaluation of a run."""
    return [u for u in booked(settings, UsageWindow, run_id) if u.activity == "evaluate"]


def test_a_set_is_judged_booked_and_shown_once(settings: Settings, trained: ModelVersion) -> None:
    """Its figures are on the run's page, its time is the run's; repeating measures nothing."""
    from steelyard_workflows.afterwards.carry_out import carry_out

    before = len(evaluated(settings, trained.run_id))
    after = carry_out(trained, asking(FAINT), settings)
    (judged,) = after.evaluations
    assert judged.passed and judged.examples == 360 and after.missing == []
    metrics, tags = page(settings, trained.run_id)
    assert metrics["evaluation/faint/accuracy"] == judged.accuracy > 0.8
    assert metrics["evaluation/faint/low"] < judged.accuracy < metrics["evaluation/faint/high"]
    assert tags["steelyard.evaluation.faint"] == judged.sha256
    window = evaluated(settings, trained.run_id)[before]
    assert (window.items, window.model) == (360, "digits")
    assert trained.flops is not None and trained.flops.forward is not None
    assert window.flop == 360 * trained.flops.forward
    supplied = {s.resource_id for s in booked(settings, SupplyWindow, trained.run_id)}
    assert window.resource_id in supplied
    again = carry_out(trained, asking(FAINT), settings)
    assert again.evaluations == [judged]
    assert len(evaluated(settings, trained.run_id)) == before + 1


def test_a_variant_is_made_once_below_its_run_and_held_against_its_gates(
    settings: Settings, trained: ModelVersion
) -> None:
    """A run of its own names the parent's; verdicts are on its page; it is judged on the sets."""
    from steelyard_workflows.afterwards.carry_out import carry_out

    asked = asking(FAINT + SMALL)
    after = carry_out(trained, asked, settings)
    (made,) = after.variants
    assert made.passed and made.version.parent == trained.version
    assert {"quality", "size"} <= {f.gate for f in made.findings if f.verdict == "pass"}
    metrics, tags = page(settings, made.version.run_id)
    assert tags["mlflow.parentRunId"] == trained.run_id
    assert tags["steelyard.gates"] == "passed" and tags["steelyard.gate.size"].startswith("pass")
    assert 0 < metrics["gate/size"] <= 0.5
    assert metrics["evaluation/faint/accuracy"] > 0.8
    assert [j.version for j in after.evaluations] == [trained.name, made.version.name]
    again = carry_out(trained, asked, settings)
    assert again.variants[0].version == made.version
    assert len(registry(settings).versions("digits")) == made.version.version


def test_what_cannot_be_made_is_told_and_the_rest_is_there(
    settings: Settings, trained: ModelVersion
) -> None:
    """A kind that does not suit the model, a set that is gone: named, and an error at the end."""
    from steelyard_workflows.afterwards.carry_out import carry_out

    text = "variants: [{kind: int8_dynamic}, {kind: int8_static}]\n"
    after = carry_out(trained, asking(text), settings)
    assert [v.kind for v in after.variants] == ["int8_static"]
    assert [m.what for m in after.missing] == ["variant int8_dynamic"]
    with pytest.raises(SteelyardError, match="Not done: variant int8_dynamic"):
        after.require_complete()
    gone = "evaluations: [{name: gone, rows: 'after_sets:gone'}]\nrollout: {}\n"
    after = carry_out(trained, asking(gone), settings)
    assert [m.what for m in after.missing] == ["evaluation sets", "rollout of trained"]
    assert "has no attribute 'gone'" in after.missing[0].why


@pytest.mark.parametrize(
    ("text", "why", "todo"),
    [
        ("rollout: {preset: fast}\n", "The platform is not up",
         "steelyard up. Later: steelyard rollout start digits/1 --preset fast"),
        (FAINT.replace("0.5", "1.0") + "rollout: {}\n", "asked for 1", "min_accuracy"),
        ("variants: [{kind: int8_static, gates: {max_size_ratio: 0.01}}]\n"
         "rollout: {version: int8_static}\n", "size: fail", "gates of the variant"),
    ],
)  # fmt: skip
def test_a_rollout_that_cannot_start_says_why_and_what_to_type(
    settings: Settings, trained: ModelVersion, text: str, why: str, todo: str
) -> None:
    """Nothing is started without the platform, below a set's accuracy, or past a shut gate."""
    from steelyard_workflows.afterwards.carry_out import carry_out

    after = carry_out(trained, asking(text), settings)
    (missing,) = after.missing
    assert missing.what.startswith("rollout") and after.rollout is None
    assert why in missing.why and todo in missing.hint
    assert Platform(settings).rollout_store.open_rollout("digits") is None


@pytest.fixture
def serving(settings: Settings, trained: ModelVersion) -> Callable[[int], Platform]:
    """A platform on the same home on which a version has all traffic."""
    up = settings.model_copy(update={"ray_address": "ray://elsewhere:10001"})

    def deployed(number: int) -> Platform:
        platform = Platform(up)
        if platform.rollouts.stable("digits") is None:
            platform.rollouts.deploy("digits", number, "ada")
            ready = {("digits", number): ApplicationState("ready")}
            token = platform.rollout_store.leases.acquire(
                "controller", "test", platform.clock.now_us(), 10**12
            )
            assert token is not None
            for _ in range(2):
                (turn,) = platform.rollouts.turns.all(ready, 0, token)
                platform.rollouts.confirm("digits", turn.after.generation, token)
        return platform

    return deployed


def test_a_rollout_starts_once_when_all_has_passed(
    settings: Settings, trained: ModelVersion, serving: Callable[[int], Platform]
) -> None:
    """First nothing is deployed, which is said; then it begins, and goes on when asked again."""
    from steelyard_workflows.afterwards.carry_out import carry_out

    asked = asking(FAINT + SMALL + "rollout: {preset: fast, version: int8_static}\n")
    up = settings.model_copy(update={"ray_address": "ray://elsewhere:10001"})
    (missing,) = carry_out(trained, asked, up).missing
    assert "digits is not deployed yet" in missing.why
    assert f"First: steelyard deploy {trained.name}. Later: " in missing.hint
    platform = serving(trained.version)
    after = carry_out(trained, asked, platform.settings)
    assert after.missing == [] and after.rollout is not None
    stored = platform.rollout_store.open_rollout("digits")
    assert stored is not None and stored.rollout.candidate == after.variants[0].version.version
    assert replace(stored.rollout.plan, candidates=()) == PRESETS["fast"]
    again = carry_out(trained, asked, platform.settings)
    assert again.rollout is not None and again.rollout.rollout_id == stored.rollout.rollout_id


def test_what_is_missing_is_done_by_a_command(
    settings: Settings, trained: ModelVersion, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The file's keys count; one JSON document whatever came out; exit code 1 only for a lack."""
    monkeypatch.setenv("STEELYARD_HOME", str(settings.home))
    file = tmp_path / "digits.yaml"
    words = ["train", str(file), "--afterwards", trained.name]
    file.write_text(f"recipe: digits_cnn\n{FAINT}", encoding="utf-8")
    assert run([*words, "--dry-run"]) == 0
    assert "afterwards: evaluation faint" in capsys.readouterr().out
    assert run([*words, "--json"]) == 0
    (judged,) = json.loads(capsys.readouterr().out)["afterwards"]["evaluations"]
    assert judged["version"] == trained.name and judged["examples"] == 360
    file.write_text(f"recipe: digits_cnn\n{FAINT}rollout: {{}}\n", encoding="utf-8")
    assert run([*words, "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["afterwards"]["missing"][0]["what"] == "rollout of trained"
    assert "Not done: rollout of trained" in shown.err
    file.write_text("recipe: digits_resnet\n", encoding="utf-8")
    assert run(words) == 2
    assert "is about digits-resnet" in capsys.readouterr().err
