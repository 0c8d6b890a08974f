"""Evidence as the ledger keeps it, which record counts, and how a forged one is told. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from steelyard.domain.errors import Refused
from steelyard.domain.evidence import Evidence, differences, evidence_digest, other_hardware
from steelyard.domain.model_version import ModelVersion

Origin = Literal["registered", "measured"]


@dataclass(frozen=True, slots=True)
class EvidenceRecord:
    """One measurement of a version, as it was recorded and by whom.

    ``registered`` came with the version and is what the registry must show for ever; ``measured``
    was added later.
    """

    model: str
    version: int
    evidence: Evidence
    sha256: str
    origin: Origin
    actor: str
    recorded_us: int


def current(
    records: Sequence[EvidenceRecord], artifact_sha256: str, here: Mapping[str, str]
) -> EvidenceRecord | None:
    """The record that counts: the newest of these bytes that holds on this hardware.

    Where none does, the newest of these bytes, which is stale; None when there is none at all.
    ``records`` are oldest first. A record older than the field does not name its bytes.
    """
    ours = [r for r in records if r.evidence.artifact_sha256 in (None, artifact_sha256)]
    fresh = [r for r in ours if not other_hardware(r.evidence.hardware, here)]
    return next(reversed(fresh or ours), None)


def check_registered(version: ModelVersion, records: Sequence[EvidenceRecord]) -> None:
    """Refuse a version of which the registry says something else than when it was registered.

    Raises:
        Refused: its record was changed there (names the fields and both digests), or what the
            record speaks of: the file's digest, or what runs it.
    """
    kept = next((r for r in records if r.origin == "registered"), None)
    if kept is None:
        return
    _check_file(version, kept.evidence)
    shown = version.evidence
    found = evidence_digest(shown) if shown is not None else None
    if found == kept.sha256:
        return
    changed = differences(kept.evidence, shown) if shown is not None else ("all of it",)
    raise Refused(
        f"The evidence of {version.name} was changed in the registry ({', '.join(changed)}): its "
        f"SHA-256 is {found or 'that of nothing'}, registered was {kept.sha256}.",
        "It takes no traffic. Restore the registry's record, or register the model again.",
    )


def _check_file(version: ModelVersion, evidence: Evidence) -> None:
    """Figures of one file say nothing of another, nor of the same one run by something else."""
    measured = evidence.artifact_sha256
    if measured not in (None, version.sha256):
        raise Refused(
            f"The file of {version.name} is not the one that was measured when it was registered: "
            f"its SHA-256 is {version.sha256}, measured was {measured}.",
            "It takes no traffic. Register the file as a new version.",
        )
    ran_by = evidence.hardware.get("runtime", version.runtime).partition(" ")[0]
    if version.servable and ran_by != version.runtime:
        raise Refused(
            f"{version.name} would be run by {version.runtime}, measured was {ran_by}.",
            "It takes no traffic. Restore the registry's record, or register the model again.",
        )
