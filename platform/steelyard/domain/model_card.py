"""A version's model card: what it is, how it was made, what was measured, what it cost. Pure.

Markdown under YAML front matter by Hugging Face's model-card specification. What is not known is
left out, an estimate says so. The specification has no word for pruning and distillation, so
``base_model_relation`` is left out there and the kind is a tag.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from steelyard.domain.energy import MEASURED
from steelyard.domain.evidence import Evidence
from steelyard.domain.evidence_record import EvidenceRecord
from steelyard.domain.gates import Finding
from steelyard.domain.measures import TIERS, Measures
from steelyard.domain.model_version import ModelVersion, Relation

MICROGRAMS = 10**6
"""In a gram."""
BASE_MODEL_RELATION: Mapping[Relation, str] = {"quantized": "quantized", "finetuned": "finetune"}
"""Our relations that the specification has a word for."""
TRAINING_TYPE: Mapping[Relation, str] = {"trained": "pre-training", "finetuned": "fine-tuning"}
"""The specification's words; everything else is said as what it is: compression."""


@dataclass(frozen=True, slots=True, order=True)
class Machine:
    """``devices`` of one model that worked together, and their region; None: not known."""

    devices: int
    device_model: str
    region: str | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """The text that a version was made by, as its run keeps it: JSON or YAML."""

    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Making:
    """What making a version took: its own training, evaluation included, and its ancestors'.

    ``tiers`` are millijoules by the method that found them; ``pay_back`` says when a variant has
    saved it, a line a measure. ``upstream`` sums ``ancestors``, each counted once; None without
    any.
    """

    own: Measures
    tiers: Mapping[str, int] | None = None
    machines: tuple[Machine, ...] = ()
    ancestors: tuple[str, ...] = ()
    upstream: Measures | None = None
    pay_back: tuple[str, ...] = ()

    @property
    def metered(self) -> bool:
        """Whether a meter read all of the energy."""
        return bool(self.tiers) and all(tier in MEASURED for tier in self.tiers or ())


@dataclass(frozen=True, slots=True)
class Card:
    """Everything that a card says, at the moment ``as_of_us`` and the ledger's entry ``seq``.

    ``record`` is the evidence that counts, ``state`` how it stands and ``why`` what is wrong with
    it. ``parent_gone``: the parent was deleted. ``recipe`` None: nothing says how it was made.
    """

    version: ModelVersion
    record: EvidenceRecord | None
    state: str
    why: tuple[str, ...]
    findings: tuple[Finding, ...]
    making: Making
    as_of_us: int
    seq: int
    hash: str
    parent_gone: bool = False
    recipe: Recipe | None = None

    @property
    def parent(self) -> str | None:
        """``digits/1``; None for a version without a parent."""
        v = self.version
        return None if v.parent is None else f"{v.model}/{v.parent}"


def front_matter(card: Card) -> str:
    """The card's YAML, its dashes included."""
    body = yaml.safe_dump(metadata(card), sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{body}---\n"


def metadata(card: Card) -> dict[str, Any]:
    """What the front matter says. A licence is never in it: nothing here knows one."""
    v = card.version
    found: dict[str, Any] = {"tags": list(_tags(v))}
    if card.parent is not None:
        found["base_model"] = card.parent
        if v.relation in BASE_MODEL_RELATION:
            found["base_model_relation"] = BASE_MODEL_RELATION[v.relation]
    emissions = _emissions(card)
    if emissions:
        found["co2_eq_emissions"] = emissions
    if card.record is not None:
        found["model-index"] = [{"name": v.name, "results": [_result(v, card.record.evidence)]}]
    return found


def _tags(version: ModelVersion) -> Iterator[str]:
    yield "steelyard"
    suffix = version.artifact.rpartition(".")[2]
    yield from dict.fromkeys((suffix, version.relation, *version.variant.split("+")))


def _emissions(card: Card) -> dict[str, Any]:
    """Grams of operational CO2e; nothing while the ledger does not know them."""
    making, relation = card.making, card.version.relation
    if making.own.carbon_ug is None:
        return {}
    said = {
        "emissions": making.own.carbon_ug / MICROGRAMS,
        "source": f"Steelyard ledger, entry {card.seq}: {how_sure(making)}",
        "training_type": TRAINING_TYPE.get(relation, f"compression ({relation})"),
    }
    regions = sorted({m.region for m in making.machines if m.region})
    if regions and all(m.region for m in making.machines):
        said["geographical_location"] = ", ".join(regions)
    if making.machines:
        said["hardware_used"] = ", ".join(
            dict.fromkeys(f"{m.devices} x {m.device_model}" for m in making.machines)
        )
    return said


def how_sure(making: Making) -> str:
    """How the energy behind an emission was found."""
    if not making.tiers:
        return "the method of its energy is not known"
    methods = ", ".join(TIERS.get(tier, tier) for tier in sorted(making.tiers))
    return f"{'metered' if making.metered else 'estimated'}, {methods}; location-based, operational"


def _result(version: ModelVersion, evidence: Evidence) -> dict[str, Any]:
    """What was measured, on which rows. Steelyard does not know the task's name: ``other``."""
    data = evidence.data_sha256
    rows: dict[str, Any] = {"type": "other", "name": f"held-out rows of {version.model}",
                            "split": "test"}  # fmt: skip
    if data is not None:
        rows["revision"] = data
    return {"task": {"type": "other"}, "dataset": rows, "metrics": list(_metrics(evidence))}


def _metrics(e: Evidence) -> Iterator[dict[str, Any]]:
    interval = ""
    if e.accuracy_low is not None and e.accuracy_high is not None:
        interval = f", 95 % interval {e.accuracy_low:.4f} to {e.accuracy_high:.4f}"
    where = e.hardware.get("cpu")
    on = f" on {where}" if where else ""
    calibration = e.own.calibration_error if e.own else None
    for kind, value, name in (
        ("accuracy", e.accuracy, f"Accuracy on {e.labels or e.examples} labels{interval}"),
        ("agreement", e.agreement, "Top-1 agreement with the parent"),
        ("expected_calibration_error", calibration, "Expected calibration error, 15 bins"),
        ("latency_ms_p50", e.latency_ms_p50, f"Milliseconds a row at batch 1, median{on}"),
        ("latency_ms_p95", e.latency_ms_p95, f"Milliseconds a row at batch 1, p95{on}"),
        ("size_bytes", e.size_bytes, "Bytes of the file"),
    ):
        if value is not None:
            yield {"type": kind, "value": value, "name": name}
