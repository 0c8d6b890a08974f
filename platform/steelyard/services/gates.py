"""Gates of models: what is asked of versions, what they show, and who overrides it and why.

A version's evidence is copied into the ledger when it is registered, and from then on the
registry's record must be that one. A version of an earlier Steelyard is copied when first seen.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from steelyard.domain.errors import Fault, InvalidInput, Refused
from steelyard.domain.evidence import Evidence, evidence_digest, other_hardware
from steelyard.domain.evidence_record import EvidenceRecord, Origin, check_registered, current
from steelyard.domain.gates import (
    DEFAULT_POLICY,
    Finding,
    GatePolicy,
    PolicyRecord,
    check_policy,
    judge,
    passed,
)
from steelyard.domain.model_version import SERVED_BY, ModelVersion
from steelyard.services.known_models import check_models

if TYPE_CHECKING:
    from steelyard.adapters.sql.evidence import EvidenceStore
    from steelyard.ports.clock import Clock
    from steelyard.ports.registry import Registry

Here = Callable[[str], Mapping[str, str]]
"""The hardware that serves, by the library that a version is run by."""
MEASURE_AGAIN = "Measure it again here: steelyard models measure"


@dataclass(frozen=True, slots=True)
class Examination:
    """A version before its gates. ``stale`` says why its speed says nothing of this hardware."""

    version: ModelVersion
    policy: GatePolicy
    record: EvidenceRecord | None
    stale: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether it may take traffic: it was measured, and every gate was passed."""
        return self.record is not None and passed(self.findings)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a version's evidence stands: the record that counts, and what is wrong with it.

    ``state``: ``fresh``, ``stale`` (measured on other hardware), ``none``, or ``changed`` (a
    record was, in the registry or in the ledger); ``why`` says more.
    """

    state: Literal["fresh", "stale", "none", "changed"]
    record: EvidenceRecord | None = None
    why: tuple[str, ...] = ()


class Gates:
    """The use cases of evidence and gates. ``here`` is the hardware that serves."""

    def __init__(
        self, store: "EvidenceStore", registry: "Registry", clock: "Clock",
        here: Here,
    ) -> None:  # fmt: skip
        self._store = store
        self._registry = registry
        self._clock = clock
        self._here = here

    def here(self, version: ModelVersion) -> Mapping[str, str]:
        """The hardware that would serve a version, and what would run it there."""
        return self._here(version.runtime)

    def policy(self, model: str) -> GatePolicy:
        """What is asked of a model's versions; the default where nobody said otherwise."""
        kept = self._store.policies(model)
        return kept[-1].policy if kept else DEFAULT_POLICY

    def policies(self, model: str) -> list[PolicyRecord]:
        """Every policy that was ever set for a model, oldest first."""
        return self._store.policies(model)

    def set_policy(
        self, model: str, changes: Mapping[str, float | None], actor: str, reason: str
    ) -> GatePolicy:
        """Change some of a model's gates from now on; None takes a gate away.

        Raises:
            NotFound: there is no such model.
            InvalidInput: a limit cannot be meant so, or no reason is given.
        """
        check_models(self._registry, model)
        _must_have_reason(reason)
        policy = replace(self.policy(model), **changes)
        check_policy(policy)
        now = self._clock.now_us()
        self._store.set_policy(PolicyRecord(model, policy, actor, reason.strip(), now))
        return policy

    def learn(self, version: ModelVersion) -> None:
        """Keep the evidence that a version was registered with; repeating it changes nothing."""
        known = self._store.records(version.model, version.version)
        if version.evidence is not None and not any(r.origin == "registered" for r in known):
            self._add(version, version.evidence, "registered", "registry")

    def add(self, version: ModelVersion, evidence: Evidence, actor: str) -> EvidenceRecord:
        """Keep a new measurement of a version beside those that there are.

        Raises:
            Refused: it was measured on other bytes than the version's.
        """
        if evidence.artifact_sha256 != version.sha256:
            raise Refused(f"What was measured is not the file of {version.name}.")
        return self._add(version, evidence, "measured", actor)

    def records(self, version: ModelVersion) -> list[EvidenceRecord]:
        """What was measured of a version, oldest first, the registry's record proved.

        Raises:
            Refused: a record was changed, in the registry or in the ledger.
        """
        self.learn(version)
        records = self._store.records(version.model, version.version)
        check_registered(version, records)
        return records

    def standing(self, version: ModelVersion) -> Standing:
        """How a version's evidence stands here and now, for people to look at."""
        here = self.here(version)
        try:
            record = current(self.records(version), version.sha256, here)
        except Refused as refused:
            return Standing("changed", None, (refused.message,))
        if record is None:
            return Standing("none")
        stale = other_hardware(record.evidence.hardware, here)
        return Standing("stale" if stale else "fresh", record, stale)

    def examine(self, model: str, version: int) -> Examination:
        """Hold a version against its model's gates.

        Raises:
            NotFound, Refused: there is no such version, no replica could load it, or its evidence
                was changed.
        """
        found = self._registry.version(model, version)
        if not found.servable:
            raise Refused(
                f"{found.name} ({found.variant}) takes no traffic: its file is {found.artifact} "
                f"for {found.runtime}, and replicas load "
                f"{', '.join(f'{suffix} in {name}' for name, suffix in SERVED_BY.items())}.",
                "Serve its parent, or make a variant that is an ONNX file.",
            )
        here = self.here(found)
        record = current(self.records(found), found.sha256, here)
        evidence = record.evidence if record else None
        policy = self.policy(model)
        # The registry's word alone does not make it an orphan of which less is asked.
        parent = found.parent is not None or (evidence is not None and evidence.compared)
        findings = judge(policy, evidence, here, parent)
        stale = other_hardware(evidence.hardware, here) if evidence else ()
        return Examination(found, policy, record, stale, findings)

    def admit(self, model: str, version: int, override: str | None = None) -> str:
        """Let a version take traffic, or refuse.

        ``override`` is an operator's reason to let it in all the same; the answer says what was
        overridden, and is empty when nothing was. A changed file or changed evidence cannot be
        overridden.

        Raises:
            NotFound, Refused: there is no such version, its file or its evidence was changed, or
                a gate was not passed.
            InvalidInput: the reason is empty.
        """
        if override is not None:
            _must_have_reason(override)
        examined = self.examine(model, version)
        overridden = self._overridden(examined, override)
        self._registry.check(examined.version)
        return overridden

    def _overridden(self, examined: Examination, override: str | None) -> str:
        """What is passed over, and why; empty when all gates were passed."""
        if examined.passed:
            return ""
        name, missing = examined.version.name, failures(examined)
        if override is not None:
            return f"gates overridden: {override.strip()} [{missing}]"
        if examined.record is None:
            raise Refused(
                f"{name} has no measured evidence.",
                f"No evidence, no traffic. {MEASURE_AGAIN} {name}.",
            )
        raise Refused(
            f"{name} does not pass its gates: {missing}.",
            f"See: steelyard models promote-check {name}. An operator may override them: "
            "--override-gates REASON.",
        )

    def _add(
        self, version: ModelVersion, evidence: Evidence, origin: Origin, actor: str
    ) -> EvidenceRecord:
        record = EvidenceRecord(
            version.model, version.version, evidence, evidence_digest(evidence), origin, actor,
            self._clock.now_us(),
        )  # fmt: skip
        self._store.add(record)
        return record


def failures(examined: Examination) -> str:
    """One line for people: each gate that was not passed, and why."""
    if examined.record is None:
        return "no measured evidence"
    return "; ".join(f"{f.gate} {f.verdict} ({f.why})"
                     for f in examined.findings if f.verdict != "pass")  # fmt: skip


def _must_have_reason(reason: str) -> None:
    if not reason.strip():
        fault = Fault("reason", "is empty")
        raise InvalidInput(str(fault), (fault,), "Say why: it stays in the history.")
