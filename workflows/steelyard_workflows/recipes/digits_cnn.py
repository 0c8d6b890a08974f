"""A small convolutional network on scikit-learn's 8x8 handwritten digits: seconds on two CPUs."""

from steelyard_workflows.workflow import (
    Checkpoints,
    EarlyStopping,
    Failure,
    Scaling,
    Train,
    Workflow,
)


def digits_cnn() -> Workflow:
    """151,306 parameters, at most 12 epochs of 1,200 examples, two workers."""
    return Workflow(
        model="digits",
        recipe="digits_cnn",
        train=Train(epochs=12, batch_size=64, learning_rate=2e-3, seed=0),
        scaling=Scaling(workers=2, cpus_per_worker=1),
        checkpoints=Checkpoints(every=1, keep=2),
        early_stopping=EarlyStopping(patience=3, min_delta=0.002),
        failure=Failure(max_retries=1),
    )
