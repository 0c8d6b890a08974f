"""Weights of seven bits where eight would overflow.

x86 CPUs without VNNI add two products of unsigned and signed bytes in 16 bits, which clips large
ones: eight points of accuracy of a residual network here. Seven bits leave room (onnxruntime's
documentation of quantization: "reduce_range"). Other CPUs add in 32 bits.
"""

from steelyard.bootstrap import hardware_profile
from steelyard_workflows.variants.kind import Option

WIDE = frozenset({"amx_int8", "avx512_vnni", "avx_vnni"})
MEANING = "weights of 7 bits, for x86 CPUs without VNNI, where 8 overflow"


def clips(machine: str, flags: frozenset[str]) -> bool:
    """Whether a CPU clips sums of INT8 products.

    >>> clips("x86_64", frozenset({"avx2"})), clips("aarch64", frozenset({"asimddp"}))
    (True, False)
    """
    return machine.lower() in {"x86_64", "amd64"} and not flags & WIDE


def reduce_range() -> Option:
    """The option, by default what this machine needs: the recipe says which."""
    here = hardware_profile()
    return Option(clips(here["machine"], frozenset(here.get("cpu_flags", "").split())), MEANING)
