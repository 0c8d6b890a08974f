"""The two calls in a loop of one's own: what they keep, what they refuse, where they are silent."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import steelyard_workflows as steelyard
from steelyard.domain.errors import InvalidInput
from steelyard_workflows.booking import journal
from steelyard_workflows.user_code import plain
from steelyard_workflows.user_code.keeping import Kept, bare, look_at
from steelyard_workflows.user_code.session import FOLDER

ROWS = torch.arange(24.0).reshape(6, 4)


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has said nothing yet, whatever other tests did in this one."""
    monkeypatch.setattr(plain, "_loop", None)
    monkeypatch.delenv(FOLDER, raising=False)
    monkeypatch.delenv("RANK", raising=False)
    registered: list[Any] = []
    monkeypatch.setattr("atexit.register", lambda *words: registered.append(words))
    yield


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What ``steelyard run`` watches."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    return tmp_path


def said(folder: Path) -> list[journal.Entry]:
    """The loop's lines."""
    return journal.read(folder / plain.LINES)


def kept_bias(folder: Path) -> float:
    """The first bias of the weights that were kept."""
    state = torch.load(folder / "best.pt", weights_only=True)
    return float(state["network"]["bias"][0])


def with_bias(value: float) -> nn.Linear:
    """A network that can be told from others."""
    network = nn.Linear(4, 3)
    nn.init.constant_(network.bias, value)
    return network


def test_a_report_is_a_line_for_who_watches(folder: Path) -> None:
    """The loop needs no MLflow, and a report is as cheap as a line in a file."""
    steelyard.report(epoch=1, loss=torch.tensor(0.5), flop=2**60)
    (entry,) = said(folder)
    assert (entry.event, entry.metrics) == ("report", {"epoch": 1, "loss": 0.5, "flop": 2**60})


def test_outside_of_run_it_is_said_once_and_nothing_happens(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop runs as it did before; what it hands over is still checked."""
    monkeypatch.chdir(tmp_path)
    for epoch in range(3):
        steelyard.report(epoch=epoch)
        steelyard.checkpoint(with_bias(1), ROWS, metric="epoch", mode="max")
    assert capsys.readouterr().err.count("not under `steelyard run`") == 1
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidInput, match="report"):
        steelyard.report(loss="low")


def test_a_value_that_is_no_number_is_named(folder: Path) -> None:
    """Every fault at once, and nothing of the report is tracked."""
    with pytest.raises(InvalidInput, match="loss: must be one number, found str") as raised:
        steelyard.report(loss="0.5", accuracy=[1.0], epoch=1)
    assert [fault.where for fault in raised.value.faults] == ["loss", "accuracy"]
    assert said(folder) == []


def test_reports_beyond_the_limit_are_not_tracked_and_said_once(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long training is not ended for it."""
    monkeypatch.setattr("steelyard_workflows.user_code.figures.MOST_REPORTS", 3)
    for step in range(6):
        steelyard.report(step=step)
    assert len(said(folder)) == 3
    assert capsys.readouterr().err.count("only the first 3 reports") == 1


def test_of_several_ranks_the_first_one_speaks(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop under torchrun reports once, and every rank may choose a checkpoint."""
    monkeypatch.setenv("RANK", "1")
    steelyard.report(loss=1.0)
    steelyard.checkpoint(with_bias(1), ROWS, metric="loss", mode="min")
    assert list(folder.iterdir()) == []


def test_a_forked_process_is_silent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data loader's worker inherits the loop, and is not it."""
    steelyard.report(loss=1.0)
    monkeypatch.setattr("os.getpid", lambda: -1)
    steelyard.report(loss=2.0)
    assert [entry.metrics["loss"] for entry in said(folder)] == [1.0]


def test_the_best_weights_are_kept(folder: Path) -> None:
    """Those of the epoch with the best value, not the last one; NaN is never the best."""
    network = with_bias(0)
    for epoch, accuracy in enumerate((0.5, 0.9, float("nan"), 0.7)):
        nn.init.constant_(network.bias, epoch)
        steelyard.report(epoch=epoch, validation_accuracy=accuracy)
        steelyard.checkpoint(network, ROWS, metric="validation_accuracy", mode="max")
    assert kept_bias(folder) == 1


def test_without_a_metric_the_last_weights_are_kept(folder: Path) -> None:
    """Nothing says which are better."""
    network = with_bias(0)
    for value in (4, 3):
        nn.init.constant_(network.bias, value)
        steelyard.checkpoint(network, ROWS)
    assert kept_bias(folder) == 3
    assert not list(folder.glob("*.new"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"metric": "accuracy", "mode": "max"}, "No accuracy was reported.*there is: loss"),
        ({"metric": "loss"}, "Is a high or a low loss better"),
        ({"metric": "loss", "mode": "up"}, "mode='max' or mode='min'"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(
    folder: Path, words: dict[str, Any], expected: str
) -> None:
    """At the first checkpoint, not after a night of training."""
    steelyard.report(loss=0.5)
    with pytest.raises(InvalidInput, match=expected):
        steelyard.checkpoint(with_bias(0), ROWS, **words)


class Pair(nn.Module):
    """A network with two answers."""

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Twice the same."""
        return rows, rows


@pytest.mark.parametrize(
    ("network", "rows", "test", "expected"),
    [
        (nn.Linear(5, 3), ROWS, None, "network: does not take float32 rows of shape"),
        (Pair(), ROWS, None, "network: gives a tuple, not a tensor of logits"),
        (nn.Flatten(0), ROWS, None, r"network: gives \[8\] for two rows"),
        (nn.Linear(4, 3), "rows", None, "example_inputs: must be rows of one of"),
        (nn.Linear(4, 3), ROWS[:0], None, "example_inputs: must be rows of one of"),
        (nn.Linear(4, 3), ROWS, ROWS, r"test: must be \(inputs, labels\)"),
        (nn.Linear(4, 3), ROWS, (ROWS, torch.zeros(5, dtype=torch.int64)), "different lengths"),
        (nn.Linear(4, 3), ROWS, (ROWS, torch.zeros(6)), "must be int64"),
        (nn.Linear(4, 3), ROWS, (ROWS, torch.full((6,), 3)), "labels go up to 3"),
        (
            nn.Linear(4, 3),
            ROWS,
            (ROWS[:, :3], torch.zeros(6, dtype=torch.int64)),
            "example_inputs float32",
        ),
    ],
)
def test_what_could_not_become_a_version_is_refused_at_once(
    folder: Path, network: nn.Module, rows: Any, test: Any, expected: str
) -> None:
    """At the first checkpoint, while somebody looks."""
    with pytest.raises(InvalidInput, match=expected):
        steelyard.checkpoint(network, rows, test)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ("rows", "train: must be rows of one of"),
        (ROWS[:, :3], r"train: rows are float32\[3\], example_inputs float32\[4\]"),
        (ROWS.double(), r"train: rows are float64\[4\]"),
        (ROWS / 0, "train: holds NaN or infinity"),
    ],
)
def test_training_rows_of_another_form_are_refused_at_once(
    folder: Path, train: Any, expected: str
) -> None:
    """Their ranges would say nothing of what the version takes."""
    with pytest.raises(InvalidInput, match=expected):
        steelyard.checkpoint(nn.Linear(4, 3), ROWS, train=train)
    assert list(folder.iterdir()) == []


def test_looking_at_a_network_leaves_it_as_it_was() -> None:
    """Modes, also of a frozen part, random state and statistics are the loop's own."""
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    network[1].eval()
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    example = look_at(network, ROWS.numpy())
    assert (example.classes, example.label_shape) == (3, ())
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


def test_what_torch_wraps_around_a_network_is_left_out() -> None:
    """The weights have the names that the loop's own network gives them."""
    network = nn.Linear(4, 3)
    compiled: Any = torch.compile(network, backend="eager")
    assert bare(compiled) is network
    assert bare(network) is network


def test_a_new_network_starts_anew() -> None:
    """A loop that tries one network after the other keeps the best of the last one."""
    kept = Kept()
    assert kept.offer(nn.Linear(4, 3), ROWS, None, (0.9, "max"))
    other = nn.Linear(4, 2)
    assert kept.offer(other, ROWS, None, (0.5, "max"))
    assert not kept.offer(other, ROWS, None, (0.4, "max"))
