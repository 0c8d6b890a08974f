"""How torch runs a safetensors file, everywhere: one thread, on the CPU, a registered network.

The file names an architecture and its hyper-parameters; whoever installed this process registered
what makes such a network, under the entry points ``steelyard.architectures``. No code and no
pickle comes from the file, and its tensors are compared with the network's before one is loaded.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from safetensors.torch import load
from torch import nn

from steelyard.bootstrap.architectures import architecture
from steelyard.domain.errors import Refused
from steelyard.domain.safetensors_file import (
    NetworkFile,
    TensorForm,
    check_tensors,
    network_file,
)
from steelyard_serving.protocols.tensors import zeros

THREADS = 1
"""Of a session; a replica is one device of the ledger."""
FORMS = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
"""What the format calls torch's types."""


class TorchSession:
    """A model's bytes, ready to run; the network is code of this installation, not of the file."""

    def __init__(self, data: bytes) -> None:
        said = network_file(data)
        self._network = _built(said)
        check_tensors(said.tensors, _forms(self._network))
        self._network.load_state_dict(load(data))
        self._network.eval()
        self._signature = said.signature
        self._outputs = [one.name for one in said.signature.outputs]
        self._narrow = torch.bfloat16 if said.computes_in == "BF16" else None
        self.inputs = tuple(one.name for one in said.signature.inputs)

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, Any]) -> list[Any]:
        """These outputs, in this order; None: all of them."""
        with torch.inference_mode(), _one_thread():
            found = self._network(*(self._given(inputs[name]) for name in self.inputs))
            tensors = found if isinstance(found, tuple) else (found,)
            named = dict(zip(self._outputs, tensors, strict=True))
            return [self._told(named[name]) for name in outputs or self._outputs]

    def zeros(self) -> dict[str, Any]:
        """One row that the model takes."""
        return zeros(self._signature)

    def _given(self, values: Any) -> torch.Tensor:
        # A request's rows may lie in its body, which nobody may write to; torch would warn.
        given = torch.from_numpy(values if values.flags.writeable else values.copy())
        return given.to(self._narrow) if self._narrow and given.is_floating_point() else given

    def _told(self, found: torch.Tensor) -> Any:
        return (found.float() if found.dtype == self._narrow else found).numpy()


def _built(said: NetworkFile) -> nn.Module:
    make = architecture(said.architecture)
    try:
        network = make(**said.hyperparameters)
    # Whatever its code makes of figures that it does not expect.
    except Exception as error:
        raise Refused(
            f"The architecture {said.architecture} cannot be made with "
            f"{dict(said.hyperparameters)}: {error}."
        ) from error
    if not isinstance(network, nn.Module):
        raise Refused(f"The architecture {said.architecture} makes no torch network.")
    return network.to(torch.bfloat16) if said.computes_in == "BF16" else network


def _forms(network: nn.Module) -> dict[str, TensorForm]:
    return {
        name: TensorForm(FORMS.get(one.dtype, str(one.dtype)), tuple(one.shape))
        for name, one in network.state_dict().items()
    }


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch's threads are the whole process's, which may also train."""
    before = torch.get_num_threads()
    if before != THREADS:
        torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        if before != THREADS:
            torch.set_num_threads(before)
