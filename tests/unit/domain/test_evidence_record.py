import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.errors import Refused
from steelyard.domain.evidence import (
    Evidence,
    Figures,
    Slice,
    Speed,
    differences,
    document,
    evidence_digest,
    read,
)
from steelyard.domain.evidence_record import EvidenceRecord, check_registered, current
from steelyard.domain.model_version import ModelVersion, Signature

HERE = {"machine": "x86_64", "runtime": "onnxruntime 1.31.1"}
EVIDENCE = Evidence(
    10, 0.9, 100, 0.125, 0.25, HERE, artifact_sha256="a" * 64, labels=100, chance=0.1,
    own=Figures((Speed(1, 0.1, 0.2, 0.3, 0.09), Speed(32, 1.0, 2.0, 3.0, 0.03)), 0.01, 4096),
    slices=(Slice("0", 40, 0.875, 0.9), Slice("1", 60, 0.916)),
)  # fmt: skip
VERSION = ModelVersion(
    "m", 2, "run", "runs:/r", "model.onnx", "a" * 64, 10, "int8", "quantized", Signature((), ()),
    0, parent=1, evidence=EVIDENCE,
)  # fmt: skip
# What evidence was before it had any of the later fields, as a registry still holds it.
FIRST_FORM = {
    "size_bytes": 10, "accuracy": 0.9, "examples": 100, "latency_ms_p50": 0.1,
    "latency_ms_p95": 0.2, "hardware": {"cpu": "x"}, "parent_size_bytes": None,
    "parent_accuracy": None, "parent_latency_ms_p50": None, "parent_latency_ms_p95": None,
    "agreement": None, "data_sha256": None,
}  # fmt: skip


def record(evidence: Evidence, at_us: int, origin: Any = "measured") -> EvidenceRecord:
    """A record of the version's."""
    return EvidenceRecord("m", 2, evidence, evidence_digest(evidence), origin, "ada", at_us)


def test_a_record_survives_json_with_its_digest() -> None:
    """What is read is what was written, to the last bit of every figure."""
    again = read(json.loads(json.dumps(document(EVIDENCE))))
    assert again == EVIDENCE and evidence_digest(again) == evidence_digest(EVIDENCE)


@given(value=st.floats(allow_nan=False, allow_infinity=False), other=st.floats(allow_nan=False))
def test_every_figure_is_in_the_digest(value: float, other: float) -> None:
    """Two records have one digest only if they say the same."""
    one, two = (replace(EVIDENCE, kl_mean=v) for v in (value, other))
    same = repr(value) == repr(other)
    assert (evidence_digest(one) == evidence_digest(two)) is same
    assert differences(one, two) == (() if same else ("kl_mean",))


def test_the_first_form_of_evidence_still_reads() -> None:
    """Fields that it did not have are unknown, and its digest is that of what it says."""
    found = read(FIRST_FORM)
    assert (found.accuracy, found.chance, found.own, found.slices) == (0.9, None, None, ())
    said = {k: v for k, v in FIRST_FORM.items() if v is not None}
    assert document(found) == said


def test_fields_of_a_later_steelyard_are_passed_over() -> None:
    """An older one still shows what it knows."""
    assert read({**document(EVIDENCE), "aura": 1}) == EVIDENCE


def test_an_edited_record_is_refused_with_the_field_and_both_digests() -> None:
    """A better accuracy in the registry than the one that was measured."""
    forged = replace(VERSION, evidence=replace(EVIDENCE, accuracy=0.99))
    kept = record(EVIDENCE, 1, "registered")
    with pytest.raises(Refused, match=r"m/2 .*\(accuracy\)") as refused:
        check_registered(forged, [kept])
    assert kept.sha256 in refused.value.message
    assert evidence_digest(replace(EVIDENCE, accuracy=0.99)) in refused.value.message
    check_registered(VERSION, [kept])


def test_a_removed_record_is_refused() -> None:
    """Nothing is not what the version was registered with."""
    with pytest.raises(Refused, match="all of it"):
        check_registered(replace(VERSION, evidence=None), [record(EVIDENCE, 1, "registered")])


def test_the_newest_record_that_holds_here_counts() -> None:
    """A later one from other hardware or of other bytes does not displace it."""
    old, new = record(EVIDENCE, 1, "registered"), record(replace(EVIDENCE, accuracy=0.91), 2)
    elsewhere = record(replace(EVIDENCE, hardware={**HERE, "runtime": "other"}), 3)
    other_bytes = record(replace(EVIDENCE, artifact_sha256="b" * 64), 4)
    assert current([old, new, elsewhere, other_bytes], "a" * 64, HERE) == new
    assert current([elsewhere, other_bytes], "a" * 64, HERE) == elsewhere
    assert current([other_bytes], "a" * 64, HERE) is None
