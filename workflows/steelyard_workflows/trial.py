"""Two rows through a network before anything is started: does it fit the data it gets?"""

import torch
from torch import nn

from steelyard.domain.errors import Fault, InvalidInput
from steelyard_workflows.data import Dataset


def classes_of(network: nn.Module, dataset: Dataset) -> int:
    """How many classes the network tells apart.

    Raises:
        InvalidInput: it does not take the inputs, its logits are not [n, ..., classes] for labels
            [n, ...], or a label is no class of it.
    """
    split = dataset.train
    rows = torch.from_numpy(split.inputs[:2])
    training = network.training
    try:
        with torch.no_grad():
            logits = network.eval()(rows)
    except Exception as error:  # whatever the user's network raises is the user's to see
        raise _unfit(
            f"does not take {rows.dtype} rows of shape {list(rows.shape[1:])}: "
            f"{type(error).__name__}: {error}"
        ) from error
    finally:
        network.train(training)
    wanted = [len(rows), *split.labels.shape[1:]]
    if not isinstance(logits, torch.Tensor):
        raise _unfit(f"gives a {type(logits).__name__}, not a tensor of logits")
    if list(logits.shape[:-1]) != wanted:
        shape = f"[{', '.join(map(str, wanted))}, classes]"
        raise _unfit(f"gives logits {list(logits.shape)} for two rows, labels need {shape}")
    classes = int(logits.shape[-1])
    for part, some in dataset.splits.items():
        if some.labels.max() >= classes:
            raise _unfit(
                f"has {classes} classes, 0..{classes - 1}; {part}.labels go up to "
                f"{some.labels.max()}"
            )
    return classes


def _unfit(what: str) -> InvalidInput:
    fault = Fault("network", what)
    return InvalidInput(str(fault), (fault,))
