"""What this machine's processor can do, as far as a kind of variant depends on it."""

from steelyard.bootstrap.runtimes import hardware_profile
from steelyard_workflows.variants.kind import Option

VNNI = frozenset({"amx_int8", "avx512_vnni", "avx_vnni"})
"""Of these an x86 CPU has one that adds products of bytes in 32 bits."""


def flags() -> frozenset[str]:
    """The flags of this CPU that decide how fast it computes in INT8 and BF16."""
    return frozenset(hardware_profile().get("cpu_flags", "").split())


def clips(machine: str, found: frozenset[str]) -> bool:
    """Whether a CPU clips sums of INT8 products.

    x86 without VNNI adds two products of unsigned and signed bytes in 16 bits, which clips large
    ones: eight points of accuracy of a residual network here. Other CPUs add in 32 bits.

    >>> clips("x86_64", frozenset({"avx2"})), clips("aarch64", frozenset({"asimddp"}))
    (True, False)
    """
    return machine.lower() in {"x86_64", "amd64"} and not found & VNNI


REDUCE_RANGE = Option(
    clips(hardware_profile()["machine"], flags()),
    "weights of 7 bits, for x86 CPUs without VNNI, where 8 overflow",
)
"""Seven bits leave room (onnxruntime's documentation of quantization: "reduce_range").

The default is what this machine needs, so the recipe says which.
"""
