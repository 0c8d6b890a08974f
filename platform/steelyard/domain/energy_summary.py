"""What a model took to make and to run, in the words of SPDX 3.0.1 and of the EU AI Act.

Both ask for energy that is "known or estimated"; each figure says which, and how it was found.
A version stands for its own activities; what it descends from is named, not added in.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from urllib.parse import quote

from steelyard.domain.compute import EU_ALERT_FLOP, compute_alert
from steelyard.domain.energy import MEASURED
from steelyard.domain.lineage import Upstream
from steelyard.domain.quantities import KWH_MJ
from steelyard.domain.table import exact, moment, plain, rounded

SPDX_VERSION = "3.0.1"
SPDX_CONTEXT = f"https://spdx.org/rdf/{SPDX_VERSION}/spdx-context.jsonld"
REGULATION = "Regulation (EU) 2024/1689, Annex XI, section 1, point 2 (d) and (e)"
UNCERTAINTY = {
    "metered_wall": "±2 %", "counter_gpu": "±5–10 %, chip only",
    "counter_cpu": "±5–10 %, chip only", "sampled_power": "±35 %", "modelled_load": "±50 %",
    "nameplate": "upper bound",
}  # fmt: skip
"""Of the methods that energy is found by."""
_CREATION, _AGENT = "_:creation", "urn:steelyard:agent"


@dataclass(frozen=True, slots=True)
class Stage:
    """Training, or inference: device-microseconds, and millijoules by method; empty is unknown.

    Idle time that belongs to the version is in it, the building's share of energy is not.
    """

    device_us: int | None
    energy: Mapping[str, int]

    @property
    def energy_mj(self) -> int | None:
        """The sum over methods; None when nothing is known."""
        return sum(self.energy.values()) if self.energy else None

    @property
    def status(self) -> str:
        """``measured``, ``estimated``, ``partly measured`` or ``unknown``."""
        metered = {method in MEASURED for method in self.energy}
        if not metered:
            return "unknown"
        if metered == {True, False}:
            return "partly measured"
        return "measured" if metered == {True} else "estimated"


@dataclass(frozen=True, slots=True)
class Footprint:
    """One version's own account. ``training_flop`` is None when no window counted any.

    With ``flop_complete`` False it is a lower bound. ``wall_us`` sums the attempts of its run.
    """

    model: str
    version: int
    variant: str
    relation: str
    parent: int | None
    run_id: str
    sha256: str
    parameters: int | None
    created_us: int
    team: str | None
    training: Stage
    inference: Stage
    training_flop: int | None
    flop_complete: bool
    wall_us: int | None

    @property
    def name(self) -> str:
        """``digits/2``, as people write it."""
        return f"{self.model}/{self.version}"


def spdx_document(
    footprints: Sequence[Footprint], created_us: int, head: tuple[int, str]
) -> dict[str, Any]:
    """An SPDX 3.0.1 JSON-LD document: an AI package with ``EnergyConsumption`` for each version.

    Energy is in megajoules, which are exact for whole millijoules; kilowatt-hours are not. Making
    a variant is training, unless it was fine-tuned; unknown energy is left out. ``head`` is the
    number and hash of the newest ledger entry behind the figures.
    """
    teams = sorted({f.team for f in footprints if f.team})
    agents = [_element("SoftwareAgent", _AGENT, name="Steelyard")]
    agents += [_element("Organization", _team_id(team), name=team) for team in teams]
    packages = [_package(f) for f in footprints]
    known = {f.name for f in footprints}
    lines = [_descent(f) for f in footprints if f"{f.model}/{f.parent}" in known]
    document = _element(
        "SpdxDocument", f"urn:steelyard:document:{head[1] or 'empty'}",
        name="Energy consumption of models", profileConformance=["core", "software", "ai"],
        comment=f"From ledger entry {head[0]}, hash {head[1] or 'none'}.",
        rootElement=[p["spdxId"] for p in packages],
        element=[e["spdxId"] for e in (*agents, *packages, *lines)],
    )  # fmt: skip
    creation = {"type": "CreationInfo", "@id": _CREATION, "specVersion": SPDX_VERSION,
                "created": _time(created_us), "createdBy": [_AGENT]}  # fmt: skip
    return {"@context": SPDX_CONTEXT, "@graph": [creation, *agents, document, *packages, *lines]}


def _element(kind: str, spdx_id: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "spdxId": spdx_id, "creationInfo": _CREATION, **fields}


def _package(f: Footprint) -> dict[str, Any]:
    package = _element(
        "ai_AIPackage", _package_id(f.model, f.version), name=f.model,
        software_packageVersion=str(f.version), software_primaryPurpose="model",
        software_downloadLocation=f"models:/{f.name}", releaseTime=_time(f.created_us),
        suppliedBy=_team_id(f.team) if f.team else _AGENT,
        verifiedUsing=[{"type": "Hash", "algorithm": "sha256", "hashValue": f.sha256}],
        comment=f"Variant {f.variant}, {f.relation}. Energy of training is {f.training.status}"
                f"{_methods(f.training)}, of inference {f.inference.status}"
                f"{_methods(f.inference)}; devices only, without the building's share.",
    )  # fmt: skip
    making = "finetuning" if f.relation == "finetuned" else "training"
    stages = {
        f"ai_{stage}EnergyConsumption": [_quantity(mj)]
        for stage, mj in ((making, f.training.energy_mj), ("inference", f.inference.energy_mj))
        if mj is not None
    }
    if stages:
        package["ai_energyConsumption"] = {"type": "ai_EnergyConsumption", **stages}
    return package


def _quantity(mj: int) -> dict[str, Any]:
    return {"type": "ai_EnergyConsumptionDescription", "ai_energyQuantity": plain(exact(mj, 9)),
            "ai_energyUnit": "megajoule"}  # fmt: skip


def _methods(stage: Stage) -> str:
    told = ", ".join(f"{method} {UNCERTAINTY[method]}" for method in sorted(stage.energy))
    return f" ({told})" if told else ""


def _descent(f: Footprint) -> dict[str, Any]:
    assert f.parent is not None
    return _element(
        "Relationship", f"{_package_id(f.model, f.version)}:descent",
        relationshipType="descendantOf",
        to=[_package_id(f.model, f.parent)], **{"from": _package_id(f.model, f.version)},
    )  # fmt: skip


def _package_id(model: str, version: int) -> str:
    return f"urn:steelyard:models:{model}:{version}"


def _team_id(team: str) -> str:
    return f"urn:steelyard:team:{quote(team, safe='')}"


def _time(at_us: int) -> str:
    return moment(at_us).strftime("%Y-%m-%dT%H:%M:%SZ")


def annex_xi(f: Footprint, flop: Upstream, energy: Upstream) -> dict[str, Any]:
    """What Annex XI asks about computing resources, training time and energy, for one version.

    ``flop`` and ``energy`` (millijoules) are the version's own training and its ancestors'.
    """
    alert = compute_alert(f.name, flop)
    return {
        "model": f.model, "version": f.version, "variant": f.variant, "relation": f.relation,
        "run_id": f.run_id, "parameters": f.parameters, "regulation": REGULATION,
        "training_flop": f.training_flop, "training_flop_complete": f.flop_complete,
        "training_device_us": f.training.device_us, "training_wall_us": f.wall_us,
        "training_energy": _energy(f.training), "inference_energy": _energy(f.inference),
        "ancestors": sorted(flop.ancestors),
        "ancestors_training_flop": flop.upstream,
        "ancestors_without_flop": sorted(flop.unknown),
        "ancestors_training_energy_mj": energy.upstream,
        "ancestors_without_energy": sorted(energy.unknown),
        "systemic_risk": {"training_flop_with_ancestors": alert.flop, "state": alert.state,
                          "threshold_flop": EU_ALERT_FLOP},
    }  # fmt: skip


def _energy(stage: Stage) -> dict[str, Any]:
    total = stage.energy_mj
    return {
        "energy_mj": total,
        "energy_kwh": None if total is None else plain(rounded(Fraction(total, KWH_MJ), 12)),
        "status": stage.status,
        "boundary": "devices, with the idle time that is the version's; without the building",
        "methods": [
            {"method": method, "energy_mj": mj, "uncertainty": UNCERTAINTY[method]}
            for method, mj in sorted(stage.energy.items())
        ],
    }


def earliest_of_runs(versions: Collection[tuple[str, int]]) -> dict[str, int]:
    """Run -> the first version that came out of it: a run was done once, so it counts once."""
    found: dict[str, int] = {}
    for run_id, version in versions:
        found[run_id] = min(version, found.get(run_id, version))
    return found
