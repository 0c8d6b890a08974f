from dataclasses import replace
from typing import Any

import pytest
import yaml

from steelyard.domain.evidence import Evidence, Slice
from steelyard.domain.evidence_record import EvidenceRecord
from steelyard.domain.gates import Finding
from steelyard.domain.measures import Measures
from steelyard.domain.model_card import Card, Machine, Making, Recipe, front_matter, metadata
from steelyard.domain.model_card_text import card_text
from steelyard.domain.model_version import ModelVersion, Relation, Signature

VERSION = ModelVersion(
    "digits", 2, "run2", "models:/m-2", "model.onnx", "b" * 64, 100, "int8_static", "quantized",
    Signature((), ()), 1_790_000_000_000_000, parent=1, recipe_sha256="c" * 64,
)  # fmt: skip
EVIDENCE = Evidence(
    size_bytes=100, accuracy=0.967, examples=360, latency_ms_p50=0.1, latency_ms_p95=0.15,
    hardware={"cpu": "a CPU"}, data_sha256="d" * 64, labels=360, accuracy_low=0.943,
    accuracy_high=0.981, parent_accuracy=0.97, slices=(Slice("a|b", 30, 0.5),),
)  # fmt: skip
RECORD = EvidenceRecord("digits", 2, EVIDENCE, "e" * 64, "registered", "registry", 1)
MADE = Making(
    Measures(cost_nano=2 * 10**9, energy_mj=36 * 10**5, carbon_ug=1_234_500),
    {"modelled_load": 36 * 10**5}, (Machine(2, "generic-vcpu", "DEU"),),
)  # fmt: skip
CARD = Card(
    VERSION, RECORD, "fresh", (), (Finding("quality", "pass", 0.01, 0.03, "of 360 labels"),),
    MADE, 1_790_000_000_000_000, 7, "f" * 64,
)  # fmt: skip


def _emissions(making: Making) -> dict[str, Any]:
    found: dict[str, Any] = metadata(replace(CARD, making=making)).get("co2_eq_emissions", {})
    return found


def test_emissions_are_grams_of_the_ledger_and_say_that_they_are_estimated() -> None:
    """1,234,500 µg are 1.2345 g; where and on what is said as the ledger has it."""
    assert _emissions(MADE) == {
        "emissions": 1.2345,
        "source": "Steelyard ledger, entry 7: estimated, load model ±50 %; location-based, "
        "operational",
        "training_type": "compression (quantized)",
        "geographical_location": "DEU",
        "hardware_used": "2 x generic-vcpu",
    }
    metered = replace(MADE, tiers={"counter_cpu": 1})
    assert ": metered, CPU counter ±10 %" in _emissions(metered)["source"]
    mixed = replace(MADE, tiers={"counter_cpu": 1, "modelled_load": 1})
    assert ": estimated, CPU counter" in _emissions(mixed)["source"]


def test_what_is_unknown_is_left_out_and_never_0() -> None:
    """No carbon, no emissions; no region, no location; no licence at all."""
    assert _emissions(replace(MADE, own=Measures(cost_nano=1))) == {}
    nowhere = replace(MADE, machines=(Machine(1, "generic-vcpu"), Machine(1, "other", "DEU")))
    assert "geographical_location" not in _emissions(nowhere)
    bare = replace(CARD, record=None, state="none", findings=(), making=Making(Measures()))
    assert set(metadata(bare)) == {"tags", "base_model", "base_model_relation"}
    text = card_text(bare)
    assert "| cost | – |" in text and "Nothing that counts was measured" in text
    assert "It does not pass" in text


@pytest.mark.parametrize(
    ("relation", "word"),
    [("quantized", "quantized"), ("finetuned", "finetune"), ("pruned", None), ("distilled", None)],
)
def test_a_relation_is_said_in_the_specifications_words_or_not_at_all(
    relation: Relation, word: str | None
) -> None:
    """Our own word is always a tag."""
    found = metadata(replace(CARD, version=replace(VERSION, relation=relation)))
    assert found.get("base_model_relation") == word
    assert found["base_model"] == "digits/1" and relation in found["tags"]


def test_results_carry_the_interval_and_the_digest_of_the_rows() -> None:
    """Every required field of the specification is there; unmeasured metrics are not."""
    (entry,) = metadata(CARD)["model-index"]
    (result,) = entry["results"]
    assert entry["name"] == "digits/2" and result["task"]["type"] == "other"
    assert {"type", "name"} < set(result["dataset"])
    assert result["dataset"]["revision"] == "d" * 64
    metrics = {one["type"]: one for one in result["metrics"]}
    assert metrics["accuracy"]["value"] == 0.967
    assert "0.9430 to 0.9810" in metrics["accuracy"]["name"]
    assert "agreement" not in metrics


def test_the_front_matter_is_yaml_whatever_the_names_are() -> None:
    """Read back, it is what was written."""
    odd = replace(RECORD, evidence=replace(EVIDENCE, hardware={"cpu": "AMD: 'Zen' # 5 @ 3 GHz"}))
    card = replace(CARD, record=odd)
    assert yaml.safe_load(front_matter(card).strip("-\n")) == metadata(card)


def test_text_of_others_stays_in_its_place() -> None:
    """A recipe cannot leave its block, nor the name of a class its row."""
    card = replace(CARD, recipe=Recipe("yaml", "note: |\n  ```\n  # not a title\n"))
    text = card_text(card)
    assert "````yaml\n" in text and text.count("````") == 2
    assert "a\\|b" in text


def test_stale_evidence_and_a_deleted_parent_are_said() -> None:
    """With why it is stale."""
    stale = replace(CARD, state="stale", why=("runtime: 1, here 2",), parent_gone=True)
    text = card_text(stale)
    assert "**stale**: runtime: 1, here 2." in text
    assert "its parent is digits/1, deleted from the registry since" in text


def test_a_trained_version_has_no_base() -> None:
    """It was pre-trained, in the specification's words."""
    trained = replace(VERSION, variant="fp32", relation="trained", parent=None)
    found = metadata(replace(CARD, version=trained))
    assert "base_model" not in found
    assert found["co2_eq_emissions"]["training_type"] == "pre-training"
