"""A workflow: the complete description of one training run, frozen.

A recipe is a Python function that returns one; a YAML file overrides a recipe
(``workflow_file``). Every field has its unit and range here and nowhere else.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from steelyard.domain.model_version import MODEL_NAME

METRIC_MODES = {"validation_accuracy": "max", "validation_loss": "min"}
"""What early stopping may watch, and which direction is better."""

Name = Annotated[str, Field(pattern=rf"^{MODEL_NAME.pattern}$")]


class Section(BaseModel):
    """A frozen part of a workflow: unknown keys and values of the wrong type are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Data(Section):
    """What is learned from. ``label_shift`` replaces each label by its n-th successor.

    A shift is a labelling fault made reproducible: training, validation and test labels are all
    shifted, so offline accuracy looks fine and live answers are wrong.
    """

    label_shift: int = Field(default=0, ge=0, le=9)


class Train(Section):
    """The optimiser's side. ``batch_size`` is the global batch, split over the workers."""

    epochs: int = Field(ge=1, le=1000)
    batch_size: int = Field(ge=1, le=1024)
    learning_rate: float = Field(gt=0, le=1)
    seed: int = Field(default=0, ge=0, lt=2**31)


class Scaling(Section):
    """How many Ray workers, and how many CPUs are reserved for each."""

    workers: int = Field(default=2, ge=1, le=64)
    cpus_per_worker: int = Field(default=1, ge=1, le=64)

    @property
    def cpus(self) -> int:
        """CPUs that the whole worker group reserves."""
        return self.workers * self.cpus_per_worker


class Checkpoints(Section):
    """One checkpoint ``every`` so many epochs; the ``keep`` best by the watched metric stay."""

    every: int = Field(default=1, ge=1)
    keep: int = Field(default=2, ge=1)


class EarlyStopping(Section):
    """Stop after ``patience`` epochs without an improvement of at least ``min_delta``."""

    metric: Literal["validation_accuracy", "validation_loss"] = "validation_loss"
    mode: Literal["max", "min"] = "min"
    patience: int = Field(default=3, ge=1)
    min_delta: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _mode_suits_metric(self) -> Self:
        better = METRIC_MODES[self.metric]
        if self.mode != better:
            raise ValueError(f"mode of {self.metric} is {better!r}, found {self.mode!r}")
        return self


class Failure(Section):
    """``max_retries``: how often a failed worker group starts again from its checkpoint."""

    max_retries: int = Field(default=1, ge=0, le=10)


class Workflow(Section):
    """One training run, complete. ``model`` is the registered model that gets a new version."""

    model: Name
    recipe: str
    team: Name | None = None
    data: Data = Data()
    train: Train
    scaling: Scaling = Scaling()
    checkpoints: Checkpoints = Checkpoints()
    early_stopping: EarlyStopping = EarlyStopping()
    failure: Failure = Failure()

    @model_validator(mode="after")
    def _batch_feeds_every_worker(self) -> Self:
        if self.train.batch_size < self.scaling.workers:
            raise ValueError(
                f"train.batch_size {self.train.batch_size} is smaller than "
                f"scaling.workers {self.scaling.workers}: a worker would get no example"
            )
        return self

    def parameters(self) -> dict[str, str]:
        """Every value under its dotted name, as text, for the experiment tracker."""
        return dict(_flatten("", self.model_dump()))


def _flatten(prefix: str, values: dict[str, object]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            rows += _flatten(f"{prefix}{key}.", value)
        elif value is not None:
            rows.append((f"{prefix}{key}", str(value)))
    return rows
