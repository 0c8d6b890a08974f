"""Let a fuzzer look for a request that is neither read nor refused.

Run by hand; the corpus that it leaves is replayed with every test run::

    pip install atheris
    python tests/fuzz tests/fuzz/corpus -max_total_time=60 -max_len=2048

A file of the corpus is one request: the last word of its path, headers, an empty line, the body.
"""

import sys
from importlib import import_module
from typing import Any

from steelyard.domain.errors import InvalidInput
from steelyard.domain.model_version import Signature, TensorSpec

atheris: Any = import_module("atheris")
with atheris.instrument_imports(include=["steelyard_serving.protocols"]):
    from steelyard_serving.protocols import open_inference, scoring
    from steelyard_serving.protocols.compression import decompressed
    from steelyard_serving.protocols.long_numbers import LONG_BYTES
    from steelyard_serving.protocols.protocol import InferenceProtocol

LIMIT = 65_536
LONG = b" " * LONG_BYTES
"""Space behind a document, for the parser of long ones."""
PROTOCOLS: dict[str, InferenceProtocol] = {"infer": open_inference, "invocations": scoring}
SIGNATURES = tuple(
    Signature(tuple(TensorSpec(name, datatype, (-1, 2)) for name, datatype in inputs), ())
    for inputs in ((("x", "FP32"),), (("x", "BYTES"), ("n", "INT64")))
)


def read(request: bytes) -> None:
    """Read a request for two models; whatever is raised but a refusal is a find."""
    head, _, body = request.partition(b"\n\n")
    call, *lines = head.decode("latin-1").split("\n")
    headers = {name: value for name, _, value in (line.partition(": ") for line in lines)}
    protocol = PROTOCOLS.get(call, open_inference)
    for signature in SIGNATURES:
        for sent in (body, body + LONG):
            try:
                protocol.read(decompressed(sent, headers, LIMIT), headers, signature)
            except InvalidInput as refusal:
                protocol.refuse(400, refusal)


if __name__ == "__main__":
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
