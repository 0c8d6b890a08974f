"""What the training side's commands say about a version that they registered."""

from typing import Annotated, Any

import typer

from steelyard.cli.output import emit, note, stdout
from steelyard.domain.model_version import ModelVersion

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def show(
    version: ModelVersion, as_json: bool, after: dict[str, Any] | None = None,
    sweep: str | None = None,
) -> None:  # fmt: skip
    """Say what was registered, and what to do next.

    ``after``: what was made of it since. ``sweep``: the run of the sweep that it came out of.
    """
    document = _document(version) | ({"afterwards": after} if after else {})
    document |= {"sweep": sweep} if sweep else {}
    emit(document, as_json, lambda: _print(version))
    note(f"Next: steelyard models show {version.name}")


def _document(version: ModelVersion) -> dict[str, Any]:
    evidence = version.evidence
    return {
        "model": version.model,
        "version": version.version,
        "run_id": version.run_id,
        "variant": version.variant,
        "parent": version.parent,
        "sha256": version.sha256,
        "size_bytes": version.size_bytes,
        "accuracy": evidence.accuracy if evidence else None,
        "examples": evidence.examples if evidence else None,
        "agreement": evidence.agreement if evidence else None,
        "parent_accuracy": evidence.parent_accuracy if evidence else None,
        "latency_ms_p50": evidence.latency_ms_p50 if evidence else None,
        "parent_latency_ms_p50": evidence.parent_latency_ms_p50 if evidence else None,
        "flops_forward": version.flops.forward if version.flops else None,
    }


def _print(version: ModelVersion) -> None:
    evidence = version.evidence
    accuracy = f"{evidence.accuracy:.4f}" if evidence else "unknown"
    stdout.print(f"Registered {version.name} ({version.variant}), accuracy {accuracy}")
