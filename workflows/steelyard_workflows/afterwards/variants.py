"""The variants that a workflow asks for: made once each, then held against their gates."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from steelyard.bootstrap import Platform
from steelyard.bootstrap.runtimes import hardware_profile
from steelyard.cli.output import note
from steelyard.domain.gates import Finding, GatePolicy, judge, passed
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_workflows.booking.metering import now_us
from steelyard_workflows.compress import compress
from steelyard_workflows.tracking.late import told_late
from steelyard_workflows.tracking.run_page import log_metrics, set_tags
from steelyard_workflows.workflow import Gates, Variant


@dataclass(frozen=True, slots=True)
class MadeVariant:
    """A variant of the trained version and what its gates say."""

    kind: str
    version: ModelVersion
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether it may take traffic, as far as the workflow's gates go."""
        return passed(self.findings)


def made(wanted: Variant, parent: ModelVersion, settings: Settings) -> MadeVariant:
    """Make a variant, unless the same recipe made one before, and hold it against its gates.

    The newest measurement that holds on this machine is judged.

    Raises:
        Refused: the kind does not suit the model, the message says why; or what is kept of its
            measurements was changed.
    """
    version = compress(parent.name, wanted.kind, settings, wanted.options)
    record = Platform(settings).gates.examine(version.model, version.version).record
    evidence = record.evidence if record else None
    findings = judge(
        policy(wanted.gates), evidence, hardware_profile(version.runtime), has_parent=True
    )
    for finding in findings:
        note(f"  {version.name} {line(finding)}")
    _keep(findings, version, settings)
    return MadeVariant(wanted.kind, version, findings)


def policy(gates: Gates) -> GatePolicy:
    """A workflow's gates as the platform judges them."""
    return GatePolicy(**gates.model_dump())


def line(finding: Finding) -> str:
    """A finding for people: the gate, its verdict, the figures.

    >>> line(Finding("size", "pass", 0.28, 0.3, "140 bytes, its parent 500"))
    'gate size: pass, 0.28 where 0.3 is asked; 140 bytes, its parent 500'
    """
    found = "not known" if finding.found is None else f"{finding.found:.4g}"
    return f"gate {finding.gate}: {finding.verdict}, {found} where {finding.limit:g} is asked; " + (
        finding.why
    )


def _keep(findings: Sequence[Finding], version: ModelVersion, settings: Settings) -> None:
    """The findings on the page of the variant's run: verdicts as tags, figures as metrics."""
    run = version.run_id
    figures = {f"gate/{f.gate}": f.found for f in findings if f.found is not None}
    verdicts = {f"steelyard.gate.{f.gate}": f"{f.verdict}: {f.why}" for f in findings}
    with told_late(settings, run, "What the gates say"):
        log_metrics(settings, run, figures, 0, now_us())
        summary = "passed" if passed(findings) else "not passed"
        set_tags(settings, run, {**verdicts, "steelyard.gates": summary})


def document(one: MadeVariant) -> dict[str, object]:
    """The variant and its findings as JSON has them."""
    return {
        "kind": one.kind,
        "version": one.version.version,
        "passed": one.passed,
        "gates": [asdict(finding) for finding in one.findings],
    }
