import pytest

from steelyard_workflows.training.stopping import Progress, observe, should_stop
from steelyard_workflows.workflow import EarlyStopping

LOSS = EarlyStopping(metric="validation_loss", mode="min", patience=2, min_delta=0.1)
ACCURACY = EarlyStopping(metric="validation_accuracy", mode="max", patience=2, min_delta=0.1)


@pytest.mark.parametrize(
    ("rule", "values", "stops_after"),
    [
        (LOSS, [1.0, 0.8, 0.6, 0.4], None),
        (LOSS, [1.0, 0.95, 0.91], 3),
        (LOSS, [1.0, 1.2, 0.8, 0.9, 0.9], 5),
        (ACCURACY, [0.5, 0.7, 0.75, 0.79], 4),
        (ACCURACY, [0.5, 0.4, 0.65, 0.8], None),
    ],
)
def test_training_stops_when_patience_runs_out(
    rule: EarlyStopping, values: list[float], stops_after: int | None
) -> None:
    """A gain below ``min_delta`` is no improvement; an improvement starts the count anew."""
    progress, stopped = Progress(), None
    for epoch, value in enumerate(values, start=1):
        progress = observe(progress, value, rule)
        if stopped is None and should_stop(progress, rule):
            stopped = epoch
    assert stopped == stops_after
