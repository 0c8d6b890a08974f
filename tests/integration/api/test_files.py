import csv
import io
from dataclasses import asdict
from typing import Any

import pytest
from fastapi.testclient import TestClient

from steelyard.bootstrap import Platform

pytestmark = pytest.mark.integration


def _csv(client: TestClient, path: str) -> list[dict[str, str]]:
    found = client.get(path)
    assert found.status_code == 200
    assert found.headers["content-type"].startswith("text/csv")
    assert "attachment" in found.headers["content-disposition"]
    return list(csv.DictReader(io.StringIO(found.text)))


def test_the_models_document_is_the_statement(client: TestClient, seeded: Platform) -> None:
    """A program reads the very integers of the ledger's statement, whole and unrounded."""
    told: dict[str, Any] = client.get("/models/digits.json").json()
    statement = seeded.statements.model("digits")
    assert told["schema_version"] == 1
    for side in ("training", "serving", "idle", "traffic"):
        assert told[side] == asdict(getattr(statement, side))
    assert told["ledger_hash"] == statement.ledger_hash
    assert told["series"] == [asdict(point) for point in statement.series]
    basis = statement.break_even["allocation"]
    assert told["break_even"]["allocation"]["requests"] == basis.requests
    assert [v["version"] for v in told["versions"]] == [1, 2]
    assert told["versions"][1]["registered"]["evidence"]["agreement"] == 0.9917
    assert told["rollout"]["rollout"]["weight_bp"] == 500


def test_the_models_rows_add_up_to_the_statement(client: TestClient, seeded: Platform) -> None:
    """Summing the file in a spreadsheet gives the page's figures; unknown is an empty cell."""
    rows = _csv(client, "/models/digits.csv")
    statement = seeded.statements.model("digits")
    for side in ("training", "serving", "idle"):
        measures = asdict(getattr(statement, side))
        mine = [r for r in rows if r["side"] == side]
        for name, total in measures.items():
            known = [int(r[name]) for r in mine if r[name]]
            assert (sum(known) if known else None) == total
    assert sum(int(r["requests"]) for r in rows if r["requests"]) == statement.traffic.requests
    unpriced = _csv(client, "/models/unpriced.csv")[0]
    assert (unpriced["cost_nano"], unpriced["device_us"]) == ("", "20000000")


def test_the_files_keep_the_chosen_days(client: TestClient, seeded: Platform) -> None:
    """The same query as the page: amounts of those days, whole-life figures as ever."""
    old = client.get("/models/digits.json", params={"period": "2001"}).json()
    assert (old["first_day"], old["last_day"]) == ("2001-01-01", "2001-12-31")
    assert set(old["training"].values()) == {None}
    now: dict[str, Any] = client.get("/models/digits.json").json()
    assert old["break_even"] == now["break_even"]
    assert now["bases"]["allocation"]["inference"]["cost_nano"] == 6_666_672
    assert now["energy_by_tier_share"] == {"modelled_load": 1.0}
    assert now["completeness"]["share"] == 1.0
    assert {f["measure"] for f in now["forecast"]} == {"cost_nano", "energy_mj", "carbon_ug"}
    rows = _csv(client, "/models/digits.csv?period=2001")
    assert {row["device_us"] for row in rows} == {""}
    assert _csv(client, "/models/digits/series.csv?period=2001") == []


def test_the_chart_is_a_file_too(client: TestClient, seeded: Platform) -> None:
    """Every point, not only those that are drawn."""
    rows = _csv(client, "/models/digits/series.csv")
    assert [{k: int(v) for k, v in row.items()} for row in rows] == [
        asdict(point) for point in seeded.statements.model("digits").series
    ]


def test_the_list_of_models_is_a_file(client: TestClient, seeded: Platform) -> None:
    """The start page's figures, in both forms."""
    told = client.get("/index.json").json()
    rows = _csv(client, "/index.csv")
    assert [m["model"] for m in told["models"]] == seeded.statements.models()
    assert [r["model"] for r in rows] == seeded.statements.models()
    training = seeded.statements.model("digits").training.cost_nano
    assert told["models"][0]["training_nano"] == training == int(rows[0]["training_nano"])
    assert rows[0]["break_even_crossed"] == "true"
    assert told["models"][0]["beside"] == int(rows[0]["beside"]) == 0
    assert told["models"][1]["training_nano"] is None
    assert rows[1]["training_nano"] == ""


def test_an_empty_platform_has_empty_files(fresh: TestClient) -> None:
    """A file without rows still has its header."""
    assert fresh.get("/index.json").json()["models"] == []
    assert fresh.get("/index.csv").text.startswith("model,stable,")
    assert _csv(fresh, "/index.csv") == []


def test_the_rollouts_history_is_a_file(client: TestClient, seeded: Platform) -> None:
    """Each event with its place in the chain."""
    rows = _csv(client, "/models/digits/rollout.csv")
    told = client.get("/models/digits/rollout.json").json()
    stored = seeded.rollout_store.open_rollout("digits")
    assert stored is not None
    events = seeded.rollout_store.events(stored.rollout.rollout_id)
    assert [r["hash"] for r in rows] == [e["hash"] for e in events]
    assert told["rollout"]["rollout_id"] == stored.rollout.rollout_id
    assert [v["judgement"] for v in told["verdicts"]] == ["inconclusive", "inconclusive"]


def test_a_prediction_is_the_audits_trace(client: TestClient, seeded: Platform) -> None:
    """Page, file and API tell the same of a prediction."""
    trace = asdict(seeded.audits.trace("p-10"))
    told = client.get("/predictions/p-10.json").json()
    assert told == {"schema_version": 1, **trace}
    assert client.get("/api/v1/predictions/p-10").json() == told
    row = _csv(client, "/predictions/p-10.csv")[0]
    assert (row["sha256"], row["step"], row["parent"]) == ("d" * 64, "0", "1")
    assert int(row["cost_nano"]) == trace["cost_nano"]


def test_a_cell_of_a_stranger_does_not_run_in_a_spreadsheet(
    client: TestClient, seeded: Platform
) -> None:
    """A reason that begins like a formula is kept as text."""
    seeded.rollouts.act("digits", "abort", "ada", "=HYPERLINK(1)")
    rows = _csv(client, "/models/digits/rollout.csv")
    assert rows[-1]["reason"] == "'=HYPERLINK(1)"
