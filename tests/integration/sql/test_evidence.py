from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError
from tests.registry_client import client_of

from steelyard.adapters.sql.evidence import EvidenceStore
from steelyard.bootstrap import Platform
from steelyard.domain.errors import Refused
from steelyard.domain.evidence import Evidence, Figures, Speed, evidence_digest
from steelyard.domain.evidence_record import EvidenceRecord
from steelyard.domain.gates import GatePolicy, PolicyRecord
from steelyard.domain.model_version import Candidate, Signature
from steelyard.settings import Settings

from .conftest import forge

pytestmark = pytest.mark.integration

EVIDENCE = Evidence(
    10, 0.9, 100, 0.125, 0.25, {"runtime": "onnxruntime 1.31.1"}, artifact_sha256="a" * 64,
    labels=100, own=Figures((Speed(1, 0.1, 0.2, 0.3, 0.09),)),
)  # fmt: skip


def record(evidence: Evidence, at_us: int, origin: Any = "measured") -> EvidenceRecord:
    """A record of m/1."""
    return EvidenceRecord("m", 1, evidence, evidence_digest(evidence), origin, "ada", at_us)


def test_records_are_kept_in_order_and_once(engine: Engine) -> None:
    """A version has one record that it was registered with, and any number of later ones."""
    store = EvidenceStore(engine)
    first, second = record(EVIDENCE, 1, "registered"), record(replace(EVIDENCE, accuracy=0.91), 2)
    for one in (first, first, record(replace(EVIDENCE, accuracy=1.0), 3, "registered"), second):
        store.add(one)
    assert store.records("m", 1) == [first, second] == store.records("m")
    assert store.records("m", 2) == []


def test_nobody_edits_a_record_in_the_ledger(engine: Engine) -> None:
    """UPDATE and DELETE are refused; whoever gets around that is found out by the digest."""
    store = EvidenceStore(engine)
    store.add(record(EVIDENCE, 1, "registered"))
    edit = "update evidence set document = replace(document, '0.9', '0.99')"
    for statement in (edit, "delete from evidence"):
        with pytest.raises(IntegrityError, match="append-only"), engine.begin() as connection:
            connection.execute(text(statement))
    forge(engine, "evidence", edit)
    with pytest.raises(Refused, match="m/1 was changed") as refused:
        store.records("m", 1)
    assert evidence_digest(EVIDENCE) in refused.value.message


def test_a_version_with_a_record_that_was_edited_in_the_ledger_takes_no_traffic(
    engine: Engine, tmp_path: Path
) -> None:
    """Deploying it is refused on either database, whatever reason an operator gives."""
    url = SecretStr(engine.url.render_as_string(hide_password=False))
    platform = Platform(Settings(home=tmp_path / "home", database_url=url))
    run = client_of(platform).create_run("0").info
    version = platform.registry.register(
        Candidate("m", run.run_id, f"{run.artifact_uri}/model", "model.onnx", "a" * 64, 10, "fp32",
                  "trained", Signature((), ()), evidence=EVIDENCE)
    )  # fmt: skip
    platform.gates.learn(version)
    forge(engine, "evidence", "update evidence set document = replace(document, '0.9', '0.99')")
    for override in (None, "the fair is tomorrow"):
        with pytest.raises(Refused, match="The ledger's evidence of m/1 was changed"):
            platform.rollouts.deploy("m", 1, "ada", override)
    assert platform.rollout_store.open_rollout("m") is None
    platform.engine.dispose()


def test_the_newest_policy_counts_and_the_others_stay(engine: Engine) -> None:
    """Who asked for what, when and why can be read for ever."""
    store = EvidenceStore(engine)
    assert store.policies("m") == []
    strict = PolicyRecord("m", GatePolicy(max_quality_loss=0.005), "ada", "paying users", 1)
    mild = PolicyRecord("m", GatePolicy(max_size_ratio=0.5), "bob", "a demo", 2)
    store.set_policy(strict)
    store.set_policy(mild)
    store.set_policy(mild)
    assert store.policies("m") == [strict, mild]
