"""A workflow: the complete description of one training run, frozen.

A recipe is a Python function that returns one; a YAML file overrides a recipe
(``workflow_file``). Every field has its unit and range here and nowhere else.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, Strict, model_validator

from steelyard.domain.model_version import MODEL_NAME
from steelyard.domain.presets import PresetName

METRIC_MODES = {"validation_accuracy": "max", "validation_loss": "min"}
"""What early stopping may watch, and which direction is better."""

TRAINED = "trained"
"""The version that training itself makes, in contrast to its variants."""

Name = Annotated[str, Field(pattern=rf"^{MODEL_NAME.pattern}$")]


FromList = Strict(False)
"""For tuples: a YAML file has lists. What is in them stays strict."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
Bounds = Annotated[tuple[Finite, Finite], FromList]


class Section(BaseModel):
    """A frozen part of a workflow: unknown keys and values of the wrong type are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Data(Section):
    """What is learned from. ``label_shift`` replaces each label by its n-th successor.

    A shift is a labelling fault made reproducible: training, validation and test labels are all
    shifted, so offline accuracy looks fine and live answers are wrong. ``options`` are for the
    recipe's own data function.
    """

    label_shift: int = Field(default=0, ge=0, le=9)
    options: dict[str, bool | int | float | str] = {}


Optimizer = Literal["adam", "adamw", "sgd", "lion"]
Schedule = Literal["constant", "linear", "cosine"]
Precision = Literal["fp32", "bf16"]


class Train(Section):
    """The optimiser's side. ``batch_size`` is the global batch, split over the workers.

    Each worker takes the same number of rows: 64 over 3 workers are 63 a step.

    ``accumulate`` batches make one optimiser step. ``steps``, when given, ends training after so
    many optimiser steps, within ``epochs``. The rate rises over ``warmup_steps`` and then follows
    the schedule down to 0 at the end. ``clip_norm`` bounds the gradient's norm.
    """

    epochs: int = Field(ge=1, le=1000)
    steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(ge=1, le=65_536)
    accumulate: int = Field(default=1, ge=1, le=1024)
    optimizer: Optimizer = "adam"
    learning_rate: float = Field(gt=0, le=10)
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    schedule: Schedule = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    clip_norm: float | None = Field(default=None, gt=0)
    precision: Precision = "fp32"
    compile: bool = False
    seed: int = Field(default=0, ge=0, lt=2**31)


class Scaling(Section):
    """How many Ray workers, what is reserved for each, and how they share the work.

    ``ddp`` keeps the whole network on every worker, ``fsdp2`` a part of it.
    """

    workers: int = Field(default=2, ge=1, le=64)
    cpus_per_worker: int = Field(default=1, ge=1, le=64)
    gpus_per_worker: int = Field(default=0, ge=0, le=8)
    strategy: Literal["ddp", "fsdp2"] = "ddp"

    @property
    def cpus(self) -> int:
        """CPUs that the whole worker group reserves."""
        return self.workers * self.cpus_per_worker


class Checkpoints(Section):
    """One checkpoint ``every`` so many epochs; the ``keep`` best by the watched metric stay.

    ``every_steps`` makes more of them within an epoch, to continue from: for long epochs.
    """

    every: int = Field(default=1, ge=1)
    every_steps: int | None = Field(default=None, ge=1)
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


class Limits(Section):
    """What a run may take before it is stopped with a checkpoint; None is no limit.

    Wall seconds, US dollars, kilowatt-hours; what is estimated counts too.
    """

    time_s: float | None = Field(default=None, gt=0)
    cost_usd: float | None = Field(default=None, gt=0)
    energy_kwh: float | None = Field(default=None, gt=0)


class Draw(Section):
    """Where a sweep draws one value from: exactly one of the three.

    ``choice`` takes one of the values, ``uniform`` and ``log_uniform`` a number between two
    bounds; between whole bounds of a whole-numbered key, a whole number.
    """

    choice: Annotated[tuple[bool | int | float | str, ...], FromList] | None = Field(
        default=None, min_length=1
    )
    uniform: Bounds | None = None
    log_uniform: Bounds | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [n for n in ("choice", "uniform", "log_uniform") if getattr(self, n) is not None]
        if len(given) != 1:
            found = ", ".join(given) or "none"
            raise ValueError(f"give one of choice, uniform and log_uniform, found {found}")
        low, high = self.uniform or self.log_uniform or (1.0, 2.0)
        if not low < high or (self.log_uniform is not None and low <= 0):
            raise ValueError(f"the bounds of {given[0]} grow (log_uniform: above 0): {low}, {high}")
        return self


class Sweep(Section):
    """Several runs with drawn values; the best by ``early_stopping.metric`` becomes the version.

    ``search`` maps dotted keys (``train.learning_rate``) to where they are drawn from. ``asha``
    ends trials early that are worse than the best 1/``reduction`` at the same epoch, none before
    ``grace_epochs``.
    """

    search: dict[str, Draw] = Field(min_length=1)
    trials: int = Field(default=8, ge=1, le=1000)
    concurrent: int = Field(default=1, ge=1, le=64)
    scheduler: Literal["asha", "none"] = "asha"
    grace_epochs: int = Field(default=1, ge=1)
    reduction: int = Field(default=3, ge=2, le=16)
    seed: int = Field(default=0, ge=0, lt=2**31)


class Gates(Section):
    """What a variant must show before it may take traffic; None asks nothing.

    ``max_quality_loss`` is a share of the examples (0.005: half a point) and must hold at the
    worse end of the paired 95 % interval. Ratios are to the parent, measured in the same run.
    ``latency_class_ms`` bounds p95 at batch 1.
    """

    max_quality_loss: float | None = Field(default=None, ge=0, le=0.5)
    max_size_ratio: float | None = Field(default=None, gt=0)
    max_latency_ratio: float | None = Field(default=None, gt=0)
    max_energy_ratio: float | None = Field(default=None, gt=0)
    latency_class_ms: float | None = Field(default=None, gt=0)
    min_agreement: float | None = Field(default=None, ge=0, le=1)


class Variant(Section):
    """A variant to make of the trained version, with its gates. ``options`` are the kind's own."""

    kind: str = Field(min_length=1, max_length=100)
    options: dict[str, bool | int | float | str] = {}
    gates: Gates = Gates()


class EvaluationSet(Section):
    """More held-out rows to judge every version on: ``module:function`` of the user's code.

    The function takes the workflow and gives a ``Split``, none of whose rows was trained or
    chosen by. Below ``min_accuracy`` a version is registered all the same, and nothing is rolled
    out.
    """

    name: Name
    rows: str = Field(pattern=r"^[\w.]+:\w+$")
    min_accuracy: float | None = Field(default=None, ge=0, le=1)


class Rollout(Section):
    """The rollout to start once all gates and evaluation sets have passed.

    ``version`` is ``trained``, or the kind of one of ``variants``. ``label_tolerance`` is the
    share of wrong answers, as a multiple of stable's, that is borne; None: what the preset says.
    """

    preset: PresetName = "standard"
    version: str = TRAINED
    label_tolerance: float | None = Field(default=None, ge=1)


class Workflow(Section):
    """One training run, complete. ``model`` is the registered model that gets a new version.

    ``recipe`` is the name of a built-in one, or ``module:function`` of the user's own code.
    """

    model: Name
    recipe: str
    owner: str | None = Field(default=None, max_length=200)
    team: Name | None = None
    data: Data = Data()
    train: Train
    scaling: Scaling = Scaling()
    checkpoints: Checkpoints = Checkpoints()
    early_stopping: EarlyStopping = EarlyStopping()
    failure: Failure = Failure()
    limits: Limits = Limits()
    sweep: Sweep | None = None
    variants: Annotated[tuple[Variant, ...], FromList] = ()
    evaluations: Annotated[tuple[EvaluationSet, ...], FromList] = ()
    rollout: Rollout | None = None

    @model_validator(mode="after")
    def _each_is_named_once(self) -> Self:
        for key, names in (
            ("variants.kind", [variant.kind for variant in self.variants]),
            ("evaluations.name", [one.name for one in self.evaluations]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{key} {', '.join(twice)} is given twice")
        return self

    @model_validator(mode="after")
    def _rollout_has_its_version(self) -> Self:
        made = {TRAINED, *(variant.kind for variant in self.variants)}
        if self.rollout is not None and self.rollout.version not in made:
            raise ValueError(
                f"rollout.version is {self.rollout.version!r}; this workflow makes: "
                f"{', '.join(sorted(made))}"
            )
        return self

    @model_validator(mode="after")
    def _batch_feeds_every_worker(self) -> Self:
        if self.train.batch_size < self.scaling.workers:
            raise ValueError(
                f"train.batch_size {self.train.batch_size} is smaller than "
                f"scaling.workers {self.scaling.workers}: a worker would get no example"
            )
        return self

    @model_validator(mode="after")
    def _parts_need_several_workers(self) -> Self:
        if self.scaling.strategy == "fsdp2" and self.scaling.workers < 2:
            raise ValueError(
                "scaling.strategy 'fsdp2' splits a network: it needs 2 workers or more"
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
