"""What a protocol is to a replica: three functions between bytes and arrays.

``open_inference`` and ``scoring`` are modules with these functions.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from steelyard.domain.errors import SteelyardError
from steelyard.domain.model_version import ModelVersion, Signature
from steelyard_serving.protocols.tensors import Array

Headers = Mapping[str, str]
"""HTTP headers by their name in lower case."""


class InferRequest(NamedTuple):
    """A request that fits the signature.

    ``wanted`` names the outputs to return, in order, ``binary`` those of them as raw bytes.
    ``timeout_us`` is for how long the client waits; None or 0 when he does not say.
    """

    inputs: Mapping[str, Array]
    items: int
    wanted: tuple[str, ...]
    binary: frozenset[str] = frozenset()
    request_id: str | None = None
    timeout_us: int | None = None


class Written(NamedTuple):
    """A body and the headers that it needs to be understood."""

    body: bytes
    headers: Headers


class InferenceProtocol(Protocol):
    """How inference is asked for and answered."""

    def read(self, body: bytes, headers: Headers, signature: Signature) -> InferRequest:
        """Read a request.

        Raises:
            InvalidInput: it is malformed or does not fit the signature.
        """

    def write(
        self,
        version: ModelVersion,
        request: InferRequest,
        outputs: Mapping[str, Array],
        prediction_id: str,
    ) -> Written:
        """Write the answer.

        Raises:
            ValueError: the protocol cannot say what the model put out.
        """

    def refuse(self, status: int, fault: SteelyardError) -> Written:
        """Write why there is no answer."""
