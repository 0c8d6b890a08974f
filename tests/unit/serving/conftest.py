"""A small ONNX version and settings under a temporary home."""

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from steelyard.domain.model_version import FlopsProfile, ModelVersion, Signature, TensorSpec
from steelyard.ports.applications import ServedVersion
from steelyard.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a platform that lives under the test's folder; windows close on demand."""
    # Ray Serve's HAProxy gets its folder in the system's temporary one.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Settings(home=tmp_path / "home", meter_interval_s=60.0, body_limit_bytes=2048)


@pytest.fixture
def make_served(tmp_path: Path) -> Callable[[int], ServedVersion]:
    """Makes version ``n`` of a model that multiplies rows of two numbers by ``n``."""

    def make(version: int) -> ServedVersion:
        graph = helper.make_graph(
            [helper.make_node("Mul", ["x", "factor"], ["y"])],
            "scale",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
            [numpy_helper.from_array(np.array([version], np.float32), "factor")],
        )
        opset = [helper.make_opsetid("", 17)]
        data = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
        path = tmp_path / f"{version}.onnx"
        path.write_bytes(data)
        spec = (-1, 2)
        return ServedVersion(
            ModelVersion(
                model="scale", version=version, run_id="r", source="s", artifact=path.name,
                sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data), variant="fp32",
                relation="trained", created_us=1, flops=FlopsProfile(2, None, "by hand", 1.0),
                signature=Signature(
                    (TensorSpec("x", "FP32", spec),), (TensorSpec("y", "FP32", spec),)
                ),
            ),
            path,
        )  # fmt: skip

    return make


@pytest.fixture
def make_version() -> Callable[[Signature], ModelVersion]:
    """Makes a version with a signature, of which nothing else matters."""

    def make(signature: Signature) -> ModelVersion:
        return ModelVersion(
            model="m", version=3, run_id="r", source="s", artifact="a", sha256="0", size_bytes=1,
            variant="fp32", relation="trained", signature=signature, created_us=1,
        )  # fmt: skip

    return make
