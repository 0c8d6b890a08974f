"""What cannot end well is refused before Ray, MLflow or the ledger hear of it."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from torch import nn

from steelyard.cli.app import run
from steelyard.domain.errors import Refused
from steelyard.settings import Settings
from steelyard_workflows.checks import check, checkpoint_bytes
from steelyard_workflows.cluster import connected
from steelyard_workflows.workflow_file import parse

Usage = namedtuple("Usage", "total used free")
NETWORK = nn.Linear(1000, 1000, bias=False)
WEIGHTS = 4_000_000
"""Bytes of its parameters."""


@pytest.mark.parametrize(
    ("train", "states"),
    [("optimizer: adam", 3), ("optimizer: adamw", 3), ("optimizer: lion", 2),
     ("optimizer: sgd, momentum: 0.9", 2), ("optimizer: sgd", 1)],
)  # fmt: skip
def test_a_checkpoint_holds_weights_and_what_the_optimiser_keeps(train: str, states: int) -> None:
    """Adam keeps two numbers for each weight, SGD none."""
    workflow = parse(f"recipe: digits_cnn\ntrain: {{{train}}}\n")
    assert checkpoint_bytes(workflow, NETWORK) == WEIGHTS * states


@pytest.mark.parametrize(("free", "enough"), [(103_108_863, False), (103_108_864, True)])
def test_a_disk_that_is_nearly_full_is_refused(
    free: int, enough: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two kept checkpoints and the next one, 12 MB each, and 64 MiB to spare."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 10**12 - free, free))
    workflow = parse("recipe: digits_cnn\n")
    settings = Settings(home=tmp_path / "not" / "made")
    if enough:
        check(workflow, NETWORK, settings)
        return
    with pytest.raises(Refused, match="needs 103 MB for checkpoints") as caught:
        check(workflow, NETWORK, settings)
    assert "checkpoints.keep" in caught.value.hint


@pytest.mark.parametrize("able", [True, False])
def test_bf16_is_refused_on_a_cpu_that_would_emulate_it(
    able: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be slower than fp32; on GPUs the workers ask their own."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: able)
    text = "recipe: digits_cnn\ntrain: {precision: bf16}\n"
    settings = Settings(home=tmp_path)
    check(parse(text + "scaling: {gpus_per_worker: 1}\n"), NETWORK, settings)
    if able:
        check(parse(text), NETWORK, settings)
        return
    with pytest.raises(Refused, match="does not compute in bf16"):
        check(parse(text), NETWORK, settings)


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ("workers: 9", "reserves 9 CPUs, the Ray cluster has 8"),
        ("workers: 3, cpus_per_worker: 3", "reserves 9 CPUs, the Ray cluster has 8"),
        ("workers: 2, gpus_per_worker: 8", "reserves 16 GPUs, the Ray cluster has"),
    ],
)
def test_what_a_local_ray_would_lack_is_said_before_it_starts(
    scaling: str, expected: str, tmp_path: Path
) -> None:
    """Waiting for CPUs or GPUs that will never be there helps nobody."""
    workflow = parse(f"recipe: digits_cnn\nscaling: {{{scaling}}}\n")
    settings = Settings(home=tmp_path, ray_cpus=8, ray_port=9)
    with pytest.raises(Refused, match=expected), connected(settings, workflow):
        pytest.fail("it started")
    assert not settings.ray_temp_dir.exists()


def test_a_dry_run_refuses_what_the_run_would_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An estimate of a run that cannot start helps nobody; exit code 1."""
    monkeypatch.setenv("STEELYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STEELYARD_RAY_PORT", "9")
    file = tmp_path / "wide.yaml"
    file.write_text("recipe: digits_cnn\nscaling: {workers: 64}\n", encoding="utf-8")
    assert run(["train", str(file), "--dry-run"]) == 1
    shown = capsys.readouterr()
    assert "reserves 64 CPUs" in shown.err and shown.out == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("scaling: {workers: 1, strategy: fsdp2}", "needs 2 workers or more"),
        ("train: {epocs: 3}", "train.epocs: is not a key of a workflow"),
        ("train: {precision: fp16}", "train.precision: input should be 'fp32' or 'bf16'"),
    ],
)
def test_impossible_files_end_with_code_2(
    text: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One message with the line, nothing started."""
    file = tmp_path / "run.yaml"
    file.write_text(f"recipe: digits_cnn\n{text}\n", encoding="utf-8")
    assert run(["train", str(file)]) == 2
    shown = capsys.readouterr().err
    assert "line 2:" in shown and expected in shown


def test_a_source_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    """Only the schema does without one."""
    assert run(["train"]) == 2
    assert "SOURCE is missing" in capsys.readouterr().err
