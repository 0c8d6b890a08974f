"""A student, cut out of the parent, that learns what the parent answers beside what is right.

The control is the same student with the same epochs and no teacher: much of what a student
shows is its being small. Measured: temperature 4 with weight 0.7 is worse than no teacher.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from steelyard_workflows.variants import learning
from steelyard_workflows.variants.kind import Bench, Kind, Made, Option, Options, Source
from steelyard_workflows.variants.learning import Lesson, Objective, learn
from steelyard_workflows.variants.narrowing import half, narrow, shorten
from steelyard_workflows.variants.networks import counted, made, parameters
from steelyard_workflows.variants.pruned_structured import RATE, labels_of

Answers = NDArray[np.float32]


def make(source: Source, options: Options, bench: Bench) -> Made:
    """Teach the student that earlier steps left, or one with fewer channels or layers.

    Raises:
        Refused: a student cannot be cut out of the parent, it diverged, or it cannot be exported.
    """
    student = source.network
    if student is None:
        student = source.parent()
        _cut(student, source, options)
    profile = counted(student, source)
    lesson = learning.lesson("student", source, options)
    start = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    figures = {"parameters": float(parameters(student))}
    if options["control"]:
        alone = Lesson("control, no teacher", lesson.epochs, lesson.learning_rate, lesson.seed)
        learn(student, source, alone, labels_of(source), profile, bench)
        test = source.dataset.test
        figures["control_accuracy"] = learning.accuracy(student, test, profile, bench)
        student.load_state_dict(start)
    answers = label(source.parent(), source, bench)
    learn(student, source, lesson, taught(source, answers, options), profile, bench)
    return made(student, source, bench, figures=figures)


def _cut(network: nn.Module, source: Source, options: Options) -> None:
    """Fewer layers where there is a list of equal ones, else fewer channels."""
    layers = int(options["layers"]) or half(network)
    if layers:
        shorten(network, source, layers)
    else:
        narrow(network, source, 1 - float(options["width"]), 8)


def label(teacher: nn.Module, source: Source, bench: Bench) -> Answers:
    """What the teacher answers to every training row, on disk: all logits may be many."""
    rows = source.dataset.train.inputs
    path, answers = bench.into / "answers.npy", None
    with bench.watch.measure("distill_label") as work, torch.no_grad():
        for start in range(0, len(rows), learning.BATCH):
            some = teacher(torch.from_numpy(rows[start : start + learning.BATCH])).numpy()
            if answers is None:
                answers = _file(path, (len(rows), *some.shape[1:]))
            answers[start : start + len(some)] = some
        work.count(len(rows), source.version.flops)
    assert answers is not None  # a training split has rows
    found: Answers = answers
    return found


def _file(path: Path, shape: tuple[int, ...]) -> Any:
    return np.lib.format.open_memmap(path, "w+", np.float32, shape)


def taught(source: Source, answers: Answers, options: Options) -> Objective:
    """``alpha`` of the teacher's answers, the rest of the recipe's own loss."""
    alpha, temperature = float(options["alpha"]), float(options["temperature"])
    like = by_direction if options["match"] == "cosine" else by_chance

    def objective(logits: torch.Tensor, labels: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        teacher = torch.from_numpy(answers[rows.numpy()])
        own = source.recipe.loss(logits, labels)
        return (1 - alpha) * own + alpha * like(logits, teacher, temperature)

    return objective


def by_chance(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Kullback-Leibler divergence of softened chances, times T² as in Hinton et al. (2015)."""
    ours = nn.functional.log_softmax(student.flatten(0, -2) / temperature, -1)
    theirs = nn.functional.log_softmax(teacher.flatten(0, -2) / temperature, -1)
    found = nn.functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return found * temperature**2


def by_direction(student: torch.Tensor, teacher: torch.Tensor, _: float) -> torch.Tensor:
    """1 - cosine, for vectors that are compared by direction (embeddings)."""
    return (1 - nn.functional.cosine_similarity(student, teacher, dim=-1)).mean()


KIND = Kind(
    "distilled", "distilled", "network", make,
    {"width": Option(0.5, "share of the channels that the student has", 0.05, 0.95),
     "layers": Option(0, "layers that the student of a transformer has; 0: half", 0, 1000),
     "temperature": Option(2.0, "softens both answers", 0.1, 20.0),
     "alpha": Option(0.5, "weight of the teacher's answers", 0.0, 1.0),
     "match": Option("logits", "what is compared: chances, or the direction of vectors",
                     choices=("logits", "cosine")),
     "epochs": Option(4, "epochs that the student learns", 1, 1000),
     "learning_rate": RATE, "seed": learning.SEED, "control": learning.CONTROL},
    libraries=("onnx", "onnxscript", "torch", "torch-pruning"), weights=True,
)  # fmt: skip
