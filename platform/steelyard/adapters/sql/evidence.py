"""Evidence of versions and the gates of models. Rows are never changed; the newest one counts."""

import json
from dataclasses import asdict

from sqlalchemy import Engine, RowMapping, select

from steelyard.adapters.sql.database import reading, writing
from steelyard.adapters.sql.insert import insert_new
from steelyard.adapters.sql.tables import models
from steelyard.domain.errors import Refused
from steelyard.domain.evidence import document, evidence_digest, read
from steelyard.domain.evidence_record import EvidenceRecord
from steelyard.domain.gates import GatePolicy, PolicyRecord
from steelyard.domain.hash_chain import digest


class EvidenceStore:
    """Evidence and gate policies in SQL. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, record: EvidenceRecord) -> None:
        """Keep a measurement; repeating it changes nothing."""
        row = {
            "model": record.model, "version": record.version, "sha256": record.sha256,
            "artifact_sha256": record.evidence.artifact_sha256, "origin": record.origin,
            "document": json.dumps(document(record.evidence), sort_keys=True),
            "actor": record.actor, "recorded_us": record.recorded_us,
        }  # fmt: skip
        # A version is registered with one record, whoever copies it in first.
        again = () if record.origin == "registered" else ("sha256", "recorded_us")
        named = ("model", "version", "origin", *again)
        key = {"record_id": digest({name: row[name] for name in named})[:32]}
        with writing(self._engine) as connection:
            insert_new(connection, models.evidence, [row | key], ("record_id",))

    def records(self, model: str, version: int | None = None) -> list[EvidenceRecord]:
        """Every measurement of a model or of one version, oldest first.

        Raises:
            Refused: a row does not have the digest that it was kept under.
        """
        e = models.evidence
        query = select(e).where(e.c.model == model).order_by(e.c.recorded_us, e.c.record_id)
        if version is not None:
            query = query.where(e.c.version == version)
        with reading(self._engine) as connection:
            return [_record(row) for row in connection.execute(query).mappings()]

    def set_policy(self, record: PolicyRecord) -> None:
        """Set what is asked of a model's versions; an earlier policy counts no more."""
        policy = json.dumps(asdict(record.policy), sort_keys=True)
        row = {"model": record.model, "policy": policy, "actor": record.actor,
               "reason": record.reason, "recorded_us": record.recorded_us}  # fmt: skip
        with writing(self._engine) as connection:
            key = {"policy_id": digest(row)[:32]}
            insert_new(connection, models.gate_policy, [row | key], ("policy_id",))

    def policies(self, model: str) -> list[PolicyRecord]:
        """Every policy that was ever set for a model, oldest first."""
        p = models.gate_policy
        query = select(p).where(p.c.model == model).order_by(p.c.recorded_us, p.c.policy_id)
        with reading(self._engine) as connection:
            return [
                PolicyRecord(row["model"], GatePolicy(**json.loads(row["policy"])), row["actor"],
                             row["reason"], row["recorded_us"])
                for row in connection.execute(query).mappings()
            ]  # fmt: skip


def _record(row: RowMapping) -> EvidenceRecord:
    evidence = read(json.loads(row["document"]))
    found = evidence_digest(evidence)
    if found != row["sha256"]:
        raise Refused(
            f"The ledger's evidence of {row['model']}/{row['version']} was changed: its SHA-256 is "
            f"{found}, kept was {row['sha256']}.",
            "Restore the ledger from a backup, or measure the version again elsewhere.",
        )
    return EvidenceRecord(row["model"], row["version"], evidence, row["sha256"], row["origin"],
                          row["actor"], row["recorded_us"])  # fmt: skip
