"""A version that torch runs, from the bytes of its file."""

from hashlib import sha256
from pathlib import Path

from steelyard.domain.model_version import TORCH, ModelVersion, Signature
from steelyard.ports.applications import ServedVersion


def torch_version(model: str, data: bytes, signature: Signature, folder: Path) -> ServedVersion:
    """The file as the first version of a model in the registry; its copy lies in a folder."""
    path = folder / "model.safetensors"
    path.write_bytes(data)
    version = ModelVersion(
        model=model, version=1, run_id="run", source="test", artifact=path.name,
        sha256=sha256(data).hexdigest(), size_bytes=len(data), variant="safetensors",
        relation="exported", signature=signature, created_us=1, runtime=TORCH,
    )  # fmt: skip
    assert version.servable
    return ServedVersion(version, path)
