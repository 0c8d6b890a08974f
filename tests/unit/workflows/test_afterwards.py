"""What follows training: said before, checked before, refused with its reason."""

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from steelyard.cli.app import run
from steelyard.domain.errors import InvalidInput, Refused, SteelyardError
from steelyard.domain.gates import Finding
from steelyard.domain.model_version import FlopsProfile, ModelVersion, Signature
from steelyard.domain.presets import PRESETS
from steelyard.domain.rollout import Rollout as Running
from steelyard_workflows.afterwards import evaluation_sets, plan, rollout, variants
from steelyard_workflows.afterwards.carry_out import Afterwards, Missing
from steelyard_workflows.afterwards.evaluation_sets import Judged
from steelyard_workflows.checks import check_afterwards
from steelyard_workflows.data import Dataset, Split
from steelyard_workflows.loading import Loaded
from steelyard_workflows.recipes.digits_cnn import digits_cnn
from steelyard_workflows.workflow import Gates, Rollout, Workflow
from steelyard_workflows.workflow_file import parse

from .conftest import StartBeside

SETS = """
import numpy as np
from steelyard_workflows import Split

INPUTS = np.arange(12, dtype=np.float32).reshape(6, 2) + 100

def rows(inputs=INPUTS, labels=(0, 1, 2, 0, 1, 2)):
    return Split(inputs, np.array(labels, np.int64), np.arange(len(labels)))

def good(workflow):
    return rows()

def table(workflow):
    return {"inputs": INPUTS}

def empty(workflow):
    return rows(INPUTS[:0], ())

def short(workflow):
    return rows(labels=(0, 1))

def wide(workflow):
    return rows(np.zeros((6, 3), np.float32))

def nan(workflow):
    return rows(INPUTS * np.float32("nan"))

def nan_labels(workflow):
    return Split(INPUTS, np.full(6, np.nan), np.arange(6))

def strange(workflow):
    return rows(labels=(0, 1, 2, 0, 1, 3))

def leak(workflow):
    return rows(np.concatenate([INPUTS[:5], [[4, 5]]]).astype(np.float32))

def chosen(workflow):
    return rows(np.concatenate([INPUTS[:5], [[50, 51]]]).astype(np.float32))

def broken(workflow):
    raise OSError("the disk is gone")
"""


@pytest.fixture
def folder(start_beside: StartBeside) -> Path:
    """The folder that one starts in, with functions that give rows."""
    return start_beside("own_sets", SETS)


def part(first: int, rows: int) -> Split:
    """Rows of two numbers that count up from ``first``; three classes in turn."""
    inputs = np.arange(first, first + 2 * rows, dtype=np.float32).reshape(rows, 2)
    return Split(inputs, np.arange(rows, dtype=np.int64) % 3, np.arange(rows))


DATA = Dataset(part(0, 6), part(50, 3), part(80, 3))


def asking(*functions: str, more: str = "") -> Workflow:
    """A workflow with an evaluation set for each function."""
    sets = ", ".join(f"{{name: {f.replace('_', '-')}, rows: 'own_sets:{f}'}}" for f in functions)
    return parse(f"recipe: digits_cnn\nevaluations: [{sets}]\n{more}")


def faults(workflow: Workflow) -> list[str]:
    """Why a workflow's evaluation sets cannot be used."""
    with pytest.raises(InvalidInput) as caught:
        evaluation_sets.load(workflow, DATA, 3)
    return [str(fault) for fault in caught.value.faults]


def test_a_set_is_what_the_users_function_gives(folder: Path) -> None:
    """By its name, with every row."""
    found = evaluation_sets.load(asking("good"), DATA, 3)
    assert list(found) == ["good"] and len(found["good"]) == 6


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("table", "evaluations.table: must be a Split, found dict"),
        ("empty", "evaluations.empty: is empty"),
        ("short", "have different lengths: [2, 6]"),
        ("wide", "evaluations.wide.inputs: are float32[3], those of train float32[2]"),
        ("nan", "evaluations.nan.inputs: "),
        ("nan_labels", "evaluations.nan-labels.labels: "),
        ("strange", "labels: go up to 3, the network knows 0..2"),
        ("leak", "1 of 6 rows are train rows, the first is 5: a leak"),
        ("chosen", "1 of 6 rows are validation rows, the first is 5: a leak"),
        ("broken", "gives no rows: OSError: the disk is gone"),
        ("gone", "gives no rows: AttributeError: module 'own_sets' has no attribute 'gone'"),
    ],
)
def test_rows_that_prove_nothing_are_named(folder: Path, function: str, expected: str) -> None:
    """Before training starts: import, shape, NaN, empty, unknown classes, leaked rows."""
    (found,) = faults(asking(function))
    assert expected in found


def test_all_sets_are_looked_at_in_one_round(folder: Path) -> None:
    """One message is enough to mend them."""
    assert len(faults(asking("good", "empty", "leak", "broken"))) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("variants: [{kind: int8_static}, {kind: int8_static}]", "variants.kind: int8_static is"),
        ("evaluations: [{name: a, rows: 'm:f'}, {name: a, rows: 'm:g'}]", "evaluations.name: a is"),
        ("evaluations: [{name: a, rows: f}]", "evaluations.0.rows"),
        ("variants: [{kind: int8_static, gates: {max_quality_loss: 0.6}}]", "max_quality_loss"),
        ("rollout: {preset: hasty}", "line 2: rollout.preset"),
        ("rollout: {version: int8_static}", "rollout.version: is 'int8_static'; this workflow"),
        ("rollout: {label_tolerance: 0.5}", "line 2: rollout.label_tolerance"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(text: str, expected: str) -> None:
    """With the line of the key."""
    with pytest.raises(InvalidInput) as caught:
        parse(f"recipe: digits_cnn\n{text}\n")
    (found,) = map(str, caught.value.faults)
    assert expected in found and found.startswith("line 2: ")


def test_what_cannot_be_made_is_refused_before_training(folder: Path) -> None:
    """Kinds that do not exist and sets that prove nothing, all in one round."""
    asked = asking("leak", "broken", more="variants: [{kind: int7}, {kind: int8_static}]\n")
    network = nn.Linear(2, 3)
    made = Loaded(digits_cnn(), network, DATA, FlopsProfile(1, 1, "counted", 1.0))
    with pytest.raises(InvalidInput) as caught:
        check_afterwards(asked, made)
    kind, leak, broken = caught.value.faults
    assert kind.where == "variants.int7" and "int8_static" in kind.what
    assert "a leak" in leak.what and "the disk is gone" in broken.what
    check_afterwards(asking("good"), made)


def test_every_gate_of_a_file_is_one_of_the_platforms() -> None:
    """None is dropped on the way to the rule that judges."""
    asked = {"max_quality_loss": 0.01, "max_size_ratio": 0.5, "max_latency_ratio": 0.9,
             "max_energy_ratio": 0.8, "latency_class_ms": 5.0, "min_agreement": 0.99}  # fmt: skip
    assert set(asked) == set(Gates.model_fields)
    policy = variants.policy(Gates.model_validate(asked))
    assert {name: getattr(policy, name) for name in asked} == asked


def version(number: int) -> ModelVersion:
    """A version as the registry has it."""
    return ModelVersion("digits", number, f"run-{number}", "runs:/r", "model.onnx", "0" * 64, 10,
                        "fp32", "trained", Signature((), ()), 0)  # fmt: skip


def judged(right: int, asked: float | None) -> Judged:
    """An answer to a hundred rows."""
    return Judged("night", "digits/1", "0" * 64, 100, 100, right, asked)


@pytest.mark.parametrize(
    ("right", "asked", "enough"),
    [(90, 0.9, True), (89, 0.9, False), (0, None, True), (0, 0.0, True)],
)
def test_an_accuracy_is_enough_when_it_is_what_the_file_asks(
    right: int, asked: float | None, enough: bool
) -> None:
    """The edge belongs to it; a set that asks nothing is passed by all."""
    one = judged(right, asked)
    assert one.passed == enough and one.low - 1e-9 <= one.accuracy <= one.high
    if enough:
        rollout.require_passed("digits/1", [one], ())
        return
    with pytest.raises(Refused, match=r"night: accuracy 0\.8900 .* asked for 0.9"):
        rollout.require_passed("digits/1", [one], ())


@pytest.mark.parametrize("verdict", ["fail", "unknown"])
def test_a_gate_that_is_not_passed_keeps_the_rollout_from_starting(verdict: str) -> None:
    """What could not be told is no pass; the reason is said."""
    shut = Finding("size", verdict, None, 0.3, "it was not measured")  # type: ignore[arg-type]
    fine = Finding("quality", "pass", 0.0, 0.01, "")
    with pytest.raises(Refused, match=rf"size: {verdict} \(it was not measured\)") as caught:
        rollout.require_passed("digits/2", [], [fine, shut])
    assert "quality" not in str(caught.value)
    rollout.require_passed("digits/2", [], [fine])


def running(candidate: int) -> Running:
    """An open rollout beside version 1."""
    return Running("r1", "digits", "canary", 1, candidate, PRESETS["fast"], "r1", 0, "ada",
                   reason="baking")  # fmt: skip


def test_a_rollout_is_started_once() -> None:
    """One that goes on, or has ended with all traffic, is left alone; another one is not ours."""
    on_its_way = rollout.going_on(version(2), 1, running(2))
    assert on_its_way is not None and on_its_way.rollout_id == "r1"
    there = rollout.going_on(version(2), 2, None)
    assert there is not None and there.state == "has all traffic already"
    assert rollout.going_on(version(2), 1, None) is None
    assert rollout.going_on(version(2), 1, running(3)) is None
    assert rollout.going_on(version(2), 2, running(3)) is None


def test_a_rollouts_plan_is_the_presets_with_its_tolerance() -> None:
    """And what is to be typed later says the same."""
    plain, tolerant = Rollout(preset="fast"), Rollout(preset="careful", label_tolerance=2)
    assert rollout.plan_of(plain) == PRESETS["fast"]
    assert rollout.plan_of(tolerant).metrics[1].tolerance == 2
    assert rollout.plan_of(tolerant).steps == PRESETS["careful"].steps
    assert rollout.command(plain, "m/2") == "steelyard rollout start m/2 --preset fast"
    assert rollout.command(tolerant, "m/2").endswith("--preset careful --label-tolerance 2")


ALL = """
variants: [{kind: int8_static, gates: {max_quality_loss: 0.01, max_size_ratio: 0.3}}]
rollout: {preset: standard, version: int8_static}
"""


def test_a_dry_run_says_what_will_be_made(folder: Path) -> None:
    """A line a part, in order, with the gates and the rollout's least time."""
    sets, variant, moved = plan.lines(asking("good", more=ALL))
    assert sets == "afterwards: evaluation good: every version on the rows of own_sets:good"
    assert variant.endswith("variant int8_static: max_quality_loss 0.01, max_size_ratio 0.3")
    assert "rollout standard of digits's int8_static version" in moved and "in 4 h" in moved
    assert plan.lines(parse("recipe: digits_cnn\n")) == []
    document = plan.document(asking("good", more=ALL))
    assert set(document) == {"evaluations", "variants", "rollout"}
    assert document["rollout"]["steps"] == [1, 5, 10, 25, 50, 100]
    assert plan.document(parse("recipe: digits_cnn\n")) == {}


def test_what_is_missing_is_an_error_after_all_else() -> None:
    """It names each part and what to type; a complete afterwards raises nothing."""
    after = Afterwards(version(3))
    after.require_complete()
    assert after.document() == {}
    after.missing.append(Missing("variant fp16", "it does not suit"))
    with pytest.raises(SteelyardError, match=r"digits/3 is registered\. Not done: variant") as e:
        after.require_complete()
    assert e.value.hint.endswith("steelyard train --afterwards digits/3")
    assert after.document()["missing"][0]["why"] == "it does not suit"


def test_a_dry_run_finds_a_leak(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is estimated or started; exit code 2 and the set's name."""
    monkeypatch.setenv("STEELYARD_HOME", str(folder / "home"))
    monkeypatch.setenv("STEELYARD_RAY_PORT", "9")
    (folder / "own_sets.py").write_text(
        "from steelyard_workflows.recipes.digits_cnn import digits_cnn\n"
        "def seen(workflow):\n    return digits_cnn().data(workflow).train\n",
        encoding="utf-8",
    )
    file = folder / "digits.yaml"
    file.write_text(
        "recipe: digits_cnn\nevaluations: [{name: seen, rows: 'own_sets:seen'}]\n",
        encoding="utf-8",
    )
    assert run(["train", str(file), "--dry-run"]) == 2
    shown = capsys.readouterr()
    assert "evaluations.seen: 1200 of 1200 rows are train rows" in shown.err and shown.out == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--afterwards", "digits"], "names no version"),
        (["--afterwards", "digits/1", "--address", "http://127.0.0.1:9"], "not on the cluster"),
    ],
)
def test_afterwards_are_of_a_registered_version_here(
    words: list[str], expected: str, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """What cannot be followed is named; nothing is made."""
    monkeypatch.setenv("STEELYARD_HOME", str(folder / "home"))
    assert run(["train", *words]) == 2
    assert expected in capsys.readouterr().err
