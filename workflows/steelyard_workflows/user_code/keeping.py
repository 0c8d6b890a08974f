"""The weights that a plain loop keeps, and what becomes of them when its process ends well.

Weights are written as ``best.pt``, which loads with ``weights_only``. At a clean end the process
itself exports them, because only it has the network's class; ``steelyard run`` does the rest.
"""

import atexit
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from steelyard.domain.envelope import text_of
from steelyard.domain.errors import Fault, InvalidInput, SteelyardError
from steelyard.domain.model_version import FlopsProfile
from steelyard_workflows import flops, saved_files
from steelyard_workflows.booking.journal import Entry
from steelyard_workflows.booking.metering import now_us
from steelyard_workflows.data import INPUT_TYPES, Split, faults_of
from steelyard_workflows.training_envelope import envelope_of_rows
from steelyard_workflows.user_code.figures import better

WEIGHTS, TEST, MODEL = "best.pt", "test.npz", "model.onnx"
ENVELOPE, VERSION = "envelope.json", "version.json"
"""What a loop leaves in the folder of its session, in the order in which it is written."""
Test = tuple[Any, Any]
Score = tuple[float, str]


@dataclass(frozen=True, slots=True)
class Example:
    """What a network takes and gives: some rows, its classes, how many answers a row has."""

    rows: NDArray[Any]
    classes: int
    label_shape: tuple[int, ...]


class Kept:
    """The best weights of one network so far, and the rows that it is exported and judged with."""

    def __init__(self) -> None:
        self._network: nn.Module | None = None
        self._best: float | None = None
        self._leaving = False

    def offer(
        self, network: nn.Module, inputs: Any, test: Test | None, score: Score | None,
        train: Any = None,
    ) -> bool:  # fmt: skip
        """Look at a network; whether its weights are to be kept.

        Raises:
            InvalidInput: it does not take the rows, gives no logits, or the test or training rows
                do not fit.
        """
        module = bare(network)
        if module is not self._network:
            rows = _array("example_inputs", inputs)
            self._example = look_at(module, rows)
            self._test = None if test is None else _split(test, self._example)
            self._train = None if train is None else _learned(train, self._example)
            self._network, self._best = module, None
        if score is None:
            return True
        value, mode = score
        if not better(value, self._best, mode):
            return False
        self._best = value
        return True

    def write(self, folder: Path, say: Callable[[Entry], None]) -> None:
        """Store the weights as they are now; the first time, see to the end of the process."""
        assert self._network is not None
        draft = folder / f"{WEIGHTS}.new"
        torch.save({"network": self._network.state_dict()}, draft)
        draft.replace(folder / WEIGHTS)
        say(Entry("checkpoint", 1, now_us()))
        if not self._leaving:
            self._leaving = True
            atexit.register(self._leave, folder, say, os.getpid())

    def _leave(self, folder: Path, say: Callable[[Entry], None], pid: int) -> None:
        """Leave the exported model and what is known of it, if the script ends well."""
        # Python sets ``last_type`` when it has shown an error that nobody caught.
        if os.getpid() != pid or hasattr(sys, "last_type"):
            return
        try:
            self._export(folder)
        except Exception as error:  # at the end of a process nobody else would tell it
            words = error.message if isinstance(error, SteelyardError) else str(error)
            reason = f"{type(error).__name__}: {words}"
            say(Entry("refused", 1, now_us(), reason=reason))

    def _export(self, folder: Path) -> None:
        from steelyard_workflows.export import export  # here: it brings ONNX to the loop's end

        network, example = self._network, self._example
        assert network is not None
        if self._test is not None:
            np.savez(folder / TEST, inputs=self._test.inputs, labels=self._test.labels)
        network.cpu()
        state = saved_files.state(folder / WEIGHTS)
        network.load_state_dict(state["network"])
        signature = export(network, example.rows, folder).signature
        if self._train is not None:
            test = None if self._test is None else self._test.inputs
            found = envelope_of_rows(signature.inputs[0].name, self._train, test)
            if found is not None:
                (folder / ENVELOPE).write_text(text_of(found), encoding="utf-8")
        profile = _profile(network, example)
        about = {"parameters": sum(p.numel() for p in network.parameters()),
                 "flops": asdict(profile) if profile else None}  # fmt: skip
        draft = folder / f"{VERSION}.new"
        draft.write_text(json.dumps(about), encoding="utf-8")
        draft.replace(folder / VERSION)


def bare(network: nn.Module) -> nn.Module:
    """A network without what torch wraps around it: DDP, ``torch.compile``."""
    inner = getattr(network, "_orig_mod", network)
    if isinstance(inner, nn.parallel.DistributedDataParallel):
        inner = inner.module
    return inner if isinstance(inner, nn.Module) else network


def look_at(network: nn.Module, rows: NDArray[Any]) -> Example:
    """Put two rows through a network, which stays as it is.

    Raises:
        InvalidInput: it does not take them, or gives something else than logits [n, ..., classes].
    """
    two = np.resize(rows, (2, *rows.shape[1:]))
    where = next((p.device for p in network.parameters()), torch.device("cpu"))
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), _judging(network):
            logits = network(torch.from_numpy(two).to(where))
    except Exception as error:  # whatever the user's network raises is the user's to see
        raise _unfit(
            "network", f"does not take {rows.dtype} rows of shape {list(rows.shape[1:])}: "
            f"{type(error).__name__}: {error}",
        ) from error  # fmt: skip
    if not isinstance(logits, torch.Tensor):
        raise _unfit("network", f"gives a {type(logits).__name__}, not a tensor of logits")
    if logits.ndim < 2 or logits.shape[0] != 2:
        raise _unfit("network", f"gives {list(logits.shape)} for two rows, not [2, ..., classes]")
    return Example(rows, int(logits.shape[-1]), tuple(logits.shape[1:-1]))


@contextmanager
def _judging(network: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards each part is in its own again, a frozen one too."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _array(name: str, values: Any) -> NDArray[Any]:
    tensor = values.detach().cpu() if isinstance(values, torch.Tensor) else values
    try:
        array = np.ascontiguousarray(tensor)
    except (TypeError, ValueError) as error:
        raise _unfit(name, f"is no tensor and no array: {error}") from error
    if array.ndim < 1 or not len(array) or array.dtype.name not in INPUT_TYPES:
        raise _unfit(
            name, f"must be rows of one of {', '.join(INPUT_TYPES)}, "
            f"found {array.dtype}{list(array.shape)}",
        )  # fmt: skip
    return array


def _split(test: Test, example: Example) -> Split:
    if not (isinstance(test, tuple | list) and len(test) == 2):
        raise _unfit("test", "must be (inputs, labels)")
    inputs = _array("test", test[0])
    labels = np.asarray(_array("test", test[1]))
    if labels.dtype.kind in "iu":
        labels = labels.astype(np.int64)
    split = Split(inputs, labels, np.arange(len(inputs), dtype=np.int64))
    own, wanted = (inputs.dtype, inputs.shape[1:]), (example.rows.dtype, example.rows.shape[1:])
    faults = faults_of("test", split, split)
    if own != wanted:
        faults.append(Fault("test", f"inputs are {own[0]}{own[1]}, example_inputs {wanted[0]}"
                                    f"{wanted[1]}"))  # fmt: skip
    elif not faults and labels.shape[1:] != example.label_shape:
        faults.append(Fault("test", f"labels are {list(labels.shape)}, the network gives "
                                    f"[n, {list(example.label_shape)}, classes]"))  # fmt: skip
    elif not faults and labels.max() >= example.classes:
        faults.append(Fault("test", f"labels go up to {labels.max()}, the network has "
                                    f"{example.classes} classes"))  # fmt: skip
    if faults:
        named = "; ".join(map(str, faults))
        raise InvalidInput(f"The test rows cannot be judged by: {named}", tuple(faults))
    return split


def _learned(train: Any, example: Example) -> NDArray[Any]:
    rows, wanted = _array("train", train), example.rows
    if (rows.dtype, rows.shape[1:]) != (wanted.dtype, wanted.shape[1:]):
        raise _unfit("train", f"rows are {rows.dtype}{list(rows.shape[1:])}, example_inputs "
                              f"{wanted.dtype}{list(wanted.shape[1:])}")  # fmt: skip
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        raise _unfit("train", "holds NaN or infinity")
    return rows


def _profile(network: nn.Module, example: Example) -> FlopsProfile | None:
    """FLOPs of one answer; those of a step are the loop's own, which nobody can see from here."""
    dtype = torch.from_numpy(example.rows[:1]).dtype
    try:
        found = flops.profile(network, example.rows.shape[1:], example.classes, dtype=dtype,
                              label_shape=example.label_shape)  # fmt: skip
    except Exception:  # what cannot be counted is unknown, and no reason to lose the version
        return None
    return replace(found, train_step=None)


def _unfit(where: str, what: str) -> InvalidInput:
    fault = Fault(where, what)
    return InvalidInput(str(fault), (fault,))
