"""Which rows a worker learns from, when."""

import pytest
import torch

from steelyard_workflows.training.sampling import Plan


def dealt(plan: Plan, epoch: int) -> list[int]:
    """All rows of an epoch, in order, over all workers."""
    return [
        int(row)
        for batch in range(plan.batches)
        for rank in range(plan.world)
        for row in plan.rows_of(epoch, batch, rank)
    ]


@pytest.mark.parametrize(
    ("rows", "batch", "world"), [(10, 4, 2), (11, 4, 2), (1200, 64, 2), (7, 7, 3), (5, 100, 4)]
)
def test_no_row_is_taken_twice_and_few_are_left_out(rows: int, batch: int, world: int) -> None:
    """Every worker gets equally many; fewer rows than workers are left out."""
    taken = dealt(Plan(3, rows, batch, world), 1)
    assert len(set(taken)) == len(taken) == rows // world * world
    assert set(taken) <= set(range(rows))


def test_workers_take_batches_of_equal_size() -> None:
    """Else averaging their gradients would weigh some rows more."""
    plan = Plan(0, 101, 8, 3)
    for batch in range(plan.batches):
        assert len({len(plan.rows_of(2, batch, rank)) for rank in range(3)}) == 1


def test_epochs_and_seeds_are_shuffled_differently_and_the_same_ones_alike() -> None:
    """What a worker that starts again relies on."""
    plan = Plan(0, 50, 10, 2)
    assert dealt(plan, 1) == dealt(Plan(0, 50, 10, 2), 1)
    assert dealt(plan, 1) != dealt(plan, 2) != dealt(Plan(1, 50, 10, 2), 2)


def test_what_remains_from_a_place_is_what_an_undisturbed_worker_takes() -> None:
    """The state of the sampler is (epoch, batch) and nothing else."""
    plan = Plan(5, 50, 10, 2, accumulate=2)
    whole = [rows for batch in range(0, plan.batches, 2) for rows in plan.step_from(4, batch, 1)]
    torch.manual_seed(99)  # whatever was drawn in between
    rest = [rows for batch in (2, 4) for rows in Plan(5, 50, 10, 2, 2).step_from(4, batch, 1)]
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], rest, strict=True))


def test_the_last_step_of_an_epoch_may_have_fewer_batches() -> None:
    """Five batches in steps of two."""
    plan = Plan(0, 50, 10, 1, accumulate=2)
    assert (plan.batches, plan.steps) == (5, 3)
    assert [len(plan.step_from(1, batch, 0)) for batch in (0, 2, 4)] == [2, 2, 1]
