"""What a run's page says of its data, its code and its machine."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from steelyard_workflows.data import Dataset, Split
from steelyard_workflows.tracking import fingerprint, provenance
from steelyard_workflows.tracking.system_metrics import Row, Sampler


def test_other_data_has_another_fingerprint(digits: Dataset) -> None:
    """One changed label is enough, and only its split differs."""
    labels = digits.test.labels.copy()
    labels[0] = (labels[0] + 1) % 10
    changed = replace(digits, test=replace(digits.test, labels=labels))
    before, after = fingerprint.parameters(digits), fingerprint.parameters(changed)
    assert {k for k in before if before[k] != after[k]} == {
        "data.sha256", "data.test.sha256", "data.test.labels",
    }  # fmt: skip


def test_the_schema_of_a_split_is_said(digits: Dataset) -> None:
    """Rows, the shape and type of one of them, and how often each label occurs."""
    found = fingerprint.parameters(digits)
    assert found["data.train.rows"] == "1200"
    assert (found["data.train.shape"], found["data.train.dtype"]) == ("[1, 8, 8]", "float32")
    counts = [int(part.split(": ")[1]) for part in found["data.train.labels"].split(", ")]
    assert (len(counts), sum(counts)) == (10, 1200)


def test_many_labels_are_summed_up() -> None:
    """Of a text's bytes, the range of their counts."""
    tokens = np.arange(90).reshape(3, 30) % 30
    found = fingerprint.fingerprint(Split(tokens, tokens, np.arange(3)))
    assert found.labels == "30 classes, 3 to 3 times each"


def test_mlflow_keeps_digests_and_no_rows(digits: Dataset) -> None:
    """Three inputs of the run, named by what they were for."""
    found = fingerprint.mlflow_datasets(digits, "digits_cnn")
    assert list(found) == ["training", "validation", "test"]
    said = found["training"].to_dict()
    assert digits.train.sha256.startswith(said["digest"])
    assert len(str(said)) < 2_000


def _git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


def test_the_commit_and_whether_it_is_all(tmp_path: Path) -> None:
    """A file that is not committed makes the state dirty."""
    _git(tmp_path, "init")
    (tmp_path / "model.py").write_text("x = 1\n", encoding="utf-8")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-m", "first")
    clean = provenance.code(tmp_path)
    assert len(clean["code.commit"]) == 40 and clean["code.dirty"] == "false"
    (tmp_path / "data.py").write_text("y = 2\n", encoding="utf-8")
    assert provenance.code(tmp_path) == clean | {"code.dirty": "true"}


def test_without_a_repository_the_code_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a machine without git."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    unknown = {"code.commit": "unknown", "code.dirty": "unknown"}
    assert provenance.code(tmp_path) == unknown
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.code(tmp_path) == unknown


def test_the_environment_is_named() -> None:
    """Versions and the processor, nothing empty."""
    found = provenance.environment()
    assert found["environment.torch"].startswith("2.") and found["environment.cpu"]
    assert all(found.values())


def test_even_a_short_run_has_one_sample_of_the_node() -> None:
    """CPU and memory, when the block ends."""
    written: list[list[Row]] = []
    with Sampler(written.append):
        pass
    (rows,) = written
    values = {name: value for name, value, _, _ in rows}
    assert 0 <= values["system/cpu_utilization_percentage"] <= 100
    total = psutil.virtual_memory().total / 1e6
    assert 0 < values["system/system_memory_usage_megabytes"] < total
