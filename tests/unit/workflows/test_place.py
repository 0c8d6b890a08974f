"""What a checkpoint keeps, and a worker that goes on from it."""

import random
from pathlib import Path

import numpy as np
import torch

from steelyard_workflows.training import place
from steelyard_workflows.training.place import Place, Position, Sums
from steelyard_workflows.training.stop import StopSign, raise_sign
from steelyard_workflows.training.stopping import Progress


def test_a_checkpoint_gives_back_the_place_and_the_weights(tmp_path: Path) -> None:
    """To the last bit, from files that run no code when they are loaded."""
    network = torch.nn.Linear(3, 2)
    here = Place(Position(3, 14, 159), Sums(26.5358979, 32), Progress(0.384, 2))
    place.save(tmp_path, here, {"network": network.state_dict(), "optimizer": {}}, 0)
    found, state = place.load(tmp_path)
    assert found == here
    assert torch.equal(state["network"]["weight"], network.weight)


def test_a_run_without_an_epoch_yet_has_no_best() -> None:
    """Unknown is None, in the checkpoint as well."""
    assert Place().progress == Progress(None, 0)


def test_each_rank_goes_on_drawing_where_it_was(tmp_path: Path) -> None:
    """torch, numpy and Python; another rank's file is not touched."""

    def draws() -> tuple[float, float, float]:
        return torch.rand(1).item(), float(np.random.rand()), random.random()

    place.seed(4, 1)
    draws()
    place.save(tmp_path, Place(), {}, 1)
    expected = draws()
    draws()
    place.restore_random(tmp_path, 1)
    assert draws() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["random-1.pt"]


def test_ranks_draw_differently_and_repeatably() -> None:
    """Else drop-out would leave out the same units everywhere."""
    drawn = []
    for number, rank in ((1, 0), (1, 1), (1, 0)):
        place.seed(number, rank)
        drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[2] != drawn[1]


def test_a_stop_sign_is_seen_with_its_reason(tmp_path: Path) -> None:
    """Workers that are not told where to look never stop for it."""
    path = tmp_path / "stop"
    assert not StopSign(str(path)).seen()
    raise_sign(path, "limits.time_s: 61 of 60 s")
    sign = StopSign(str(path))
    assert sign.seen() and sign.seen()
    assert sign.reason == "limits.time_s: 61 of 60 s"
    assert not StopSign(None).seen()
