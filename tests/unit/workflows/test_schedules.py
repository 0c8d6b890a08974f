"""The learning rate of a step."""

import pytest

from steelyard_workflows.training.schedules import factor, rate
from steelyard_workflows.workflow import Schedule, Train


def rates(schedule: Schedule, warmup_steps: int, total: int) -> list[float]:
    """The rates of all steps, of a full rate of 1."""
    train = Train(
        epochs=1, batch_size=1, learning_rate=1.0, schedule=schedule, warmup_steps=warmup_steps
    )
    return [rate(train, step, total) for step in range(total)]


def test_a_constant_rate_rises_and_stays() -> None:
    """Warm-up is linear and ends at the full rate."""
    assert rates("constant", 4, 6) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_falling_rate_never_rises_and_is_0_at_the_end(schedule: Schedule) -> None:
    """The last step still learns; the one after it would not."""
    found = rates(schedule, 0, 50)
    assert found[0] == 1.0 and found == sorted(found, reverse=True)
    assert 0 < found[-1] < 0.05 and factor(schedule, 1.0) == pytest.approx(0.0)


def test_cosine_is_half_way_down_in_the_middle() -> None:
    """Slow, fast, slow."""
    assert factor("cosine", 0.5) == pytest.approx(0.5)
    assert factor("cosine", 0.25) > 0.75


def test_a_warm_up_longer_than_the_run_only_rises() -> None:
    """It is cut off, not an error."""
    assert rates("cosine", 10, 3) == [0.1, 0.2, 0.3]
