"""What runs a model's file here, and on which hardware."""

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from steelyard.domain.errors import Refused
from steelyard.domain.model_files import KINDS
from steelyard.domain.model_version import ONNXRUNTIME, OPENVINO, SERVED_BY, TORCH

if TYPE_CHECKING:
    from steelyard.ports.model_session import ModelSession

EXTRA_OF = {ONNXRUNTIME: "serving", OPENVINO: "openvino", TORCH: "torch"}
"""The extra of this distribution that brings a runtime."""


def runtime_session(runtime: str, data: bytes) -> "ModelSession":
    """A file's bytes, ready to run as every replica of that runtime runs them.

    Raises:
        Refused: they are no file of the runtime's kind or reach outside of it, no replica runs
            this, or the library is not installed here.
    """
    opened = session_class(runtime)
    KINDS[SERVED_BY[runtime]](data)
    return opened(data)


def session_class(runtime: str) -> "type[ModelSession]":
    """What opens bytes in a runtime; its library is imported, without what reports to its makers.

    Raises:
        Refused: no replica runs this, or the library is not installed here.
    """
    if runtime not in SERVED_BY:
        raise Refused(f"No replica runs {runtime}.")
    try:
        if runtime == ONNXRUNTIME:
            from steelyard.adapters.onnx_session import OnnxSession

            return OnnxSession
        if runtime == OPENVINO:
            from steelyard.adapters.openvino_session import OpenVinoSession

            return OpenVinoSession
        # The platform itself installs without torch, so what needs it is another package's.
        for point in entry_points(group="steelyard.runtimes", name=runtime):
            found: type[ModelSession] = point.load()
            return found
        raise ModuleNotFoundError(runtime)  # installed before there was such an entry point
    except ModuleNotFoundError as error:
        raise Refused(
            f"{runtime} is not installed here, and nothing else may run this file.",
            f'pip install "steelyard[{EXTRA_OF[runtime]}]" in this environment.',
        ) from error


def hardware_profile(runtime: str = ONNXRUNTIME) -> dict[str, str]:
    """What this machine is, as far as it decides how fast a model runs by ``runtime``."""
    from steelyard.adapters.hardware import hardware_profile

    return hardware_profile(runtime)
