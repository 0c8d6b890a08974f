"""What can be said about a run in the experiment tracker. Nothing here waits for the tracker.

Each word goes into the run's outbox; whoever tracks the run sends it (``tracking``).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from steelyard.settings import Settings
from steelyard_workflows.tracking import outbox
from steelyard_workflows.tracking.outbox import Item
from steelyard_workflows.tracking.system_metrics import Row

if TYPE_CHECKING:
    from mlflow.data.numpy_dataset import NumpyDataset


def outbox_of(settings: Settings, run_id: str) -> Path:
    """Where a run's unsent lines are: beside its checkpoints."""
    return settings.checkpoint_dir / run_id / outbox.FILE


def log_metrics(
    settings: Settings, run_id: str, metrics: Mapping[str, float], step: int, at_us: int
) -> None:
    """Write the metrics of one step together. Safe from any thread."""
    rows = [(key, value, at_us // 1_000, step) for key, value in metrics.items()]
    log_rows(settings, run_id, rows)


def log_points(
    settings: Settings, run_id: str, points: Sequence[Sequence[float]], at_us: int
) -> None:
    """Write the training loss and the learning rate of single optimiser steps."""
    rows = [
        (f"step/{name}", value, at_us // 1_000, int(step))
        for step, *values in points
        for name, value in zip(("train_loss", "learning_rate"), values, strict=True)
    ]
    if rows:
        log_rows(settings, run_id, rows)


def log_rows(settings: Settings, run_id: str, rows: list[Row]) -> None:
    """Write metrics of any steps together. Safe from any thread."""
    outbox.put(outbox_of(settings, run_id), Item("metrics", {"rows": rows}))


def log_params(settings: Settings, run_id: str, values: Mapping[str, str]) -> None:
    """Write parameters, which never change."""
    outbox.put(outbox_of(settings, run_id), Item("params", dict(values)))


def set_tags(settings: Settings, run_id: str, values: Mapping[str, str]) -> None:
    """Set tags; the last word counts."""
    outbox.put(outbox_of(settings, run_id), Item("tags", dict(values)))


def log_dataset(settings: Settings, run_id: str, dataset: "NumpyDataset", context: str) -> None:
    """Name a data set as an input of the run; MLflow keeps its digest and schema, not its rows."""
    values = {"dataset": dataset.to_dict(), "context": context}
    outbox.put(outbox_of(settings, run_id), Item("dataset", values))


def file_for(settings: Settings, run_id: str, name: str) -> Path:
    """Where to write a file that is to be an artefact; it is kept until MLflow has it."""
    folder = outbox_of(settings, run_id).parent / outbox.FILES
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def log_artifact(settings: Settings, run_id: str, file: Path, folder: str = "") -> None:
    """Keep a file with the run, in a folder of its artefacts."""
    outbox.put(outbox_of(settings, run_id), Item("artifact", {"path": str(file), "folder": folder}))
