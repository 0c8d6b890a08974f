from io import BytesIO
from typing import Any

import pyarrow
import pytest
from fastapi.testclient import TestClient
from pyarrow.parquet import write_table

from steelyard.api.credentials import api_token
from steelyard.api.labels import BODY_LIMIT
from steelyard.bootstrap import Platform
from steelyard.domain import labels as domain

pytestmark = pytest.mark.integration
PATH = "/api/v1/labels"
CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"
BODY: dict[str, Any] = {
    "labels": [
        {"prediction_id": "p-150", "classes": [0]},
        {"prediction_id": "p-10", "classes": [9]},
    ],
    "source": "reviewers",
}


def _bearer(platform: Platform) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_token(platform.settings)}"}


def test_labels_are_stored_once(client: TestClient, seeded: Platform) -> None:
    """A new label counts, one that is known already is not overwritten, repeating adds nothing."""
    first = client.post(PATH, json=BODY, headers=_bearer(seeded))
    assert first.json() == {"new": 1, "known": 1}
    assert client.post(PATH, json=BODY, headers=_bearer(seeded)).json() == {"new": 0, "known": 2}
    labelled = client.get("/api/v1/predictions/p-150").json()["prediction"]
    assert labelled["label_classes"] == "[0]"
    assert client.get("/api/v1/predictions/p-10").json()["prediction"]["label_classes"] == "[0]"


def test_a_label_may_come_before_its_prediction(client: TestClient, seeded: Platform) -> None:
    """Records travel through the spool, so a fast reviewer can be first."""
    early = {"labels": [{"prediction_id": "not-here-yet", "classes": [1]}], "source": "x"}
    assert client.post(PATH, json=early, headers=_bearer(seeded)).json()["new"] == 1


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("", 401),
        ("Basic dXNlcjpwYXNz", 401),
        ("Bearer ", 401),
        ("Bearer wrong", 403),
    ],
)
def test_without_the_right_token_nothing_is_stored(
    client: TestClient, seeded: Platform, header: str | None, status: int
) -> None:
    """No credentials are 401 and say which are wanted, wrong ones 403; neither has an effect."""
    headers = {} if header is None else {"Authorization": header}
    refused = client.post(PATH, json=BODY, headers=headers)
    assert refused.status_code == status
    assert ("www-authenticate" in refused.headers) is (status == 401)
    assert api_token(seeded.settings) not in refused.text
    found = seeded.predictions.prediction("p-150")
    assert found is not None
    assert found["label_classes"] is None


def test_credentials_are_judged_before_the_body(client: TestClient) -> None:
    """A stranger learns nothing from malformed or huge bodies."""
    assert client.post(PATH, content=b"nonsense").status_code == 401
    assert client.post(PATH, content=b" " * (BODY_LIMIT + 1)).status_code == 401


def test_a_malformed_body_is_400_with_its_faults(client: TestClient, seeded: Platform) -> None:
    """The answer names each fault and shows what is expected."""
    bad = {"labels": [{"prediction_id": "a", "classes": ["three"]}], "source": "x"}
    told = client.post(PATH, json=bad, headers=_bearer(seeded))
    assert told.status_code == 400
    assert told.json()["faults"][0].startswith("labels.0.classes.0: ")
    assert "prediction_id" in told.json()["hint"]


def test_a_body_over_the_limit_is_413(client: TestClient, seeded: Platform) -> None:
    """More than 4 MiB is not read to its end."""
    told = client.post(PATH, content=b" " * (BODY_LIMIT + 1), headers=_bearer(seeded))
    assert told.status_code == 413


def test_labels_cannot_be_read_by_get(client: TestClient) -> None:
    """The route takes POST only."""
    assert client.get(PATH).status_code == 405


def _parquet(rows: list[dict[str, object]]) -> bytes:
    written = BytesIO()
    write_table(pyarrow.Table.from_pylist(rows), written)
    return written.getvalue()


TABLES = {
    CSV: b"prediction_id,class,note\r\np-150,0,odd\r\np-10,9,\r\n",
    f"{CSV}; charset=utf-8": b'\xef\xbb\xbfprediction_id,classes\np-150,[0]\np-10,"[9]"\n',
    "Text/CSV": b"prediction_id,class\np-150,0\np-10,9\n",
    PARQUET: _parquet([{"prediction_id": "p-150", "class": 0}, {"prediction_id": "p-10",
                                                               "class": 9}]),
}  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_taken_as_a_file_is(client: TestClient, seeded: Platform, kind: str) -> None:
    """The same rows as CSV or Parquet add the same labels; adding them again changes nothing."""
    headers, params = {**_bearer(seeded), "Content-Type": kind}, {"source": "reviewers"}
    sent = [client.post(PATH, content=TABLES[kind], headers=headers, params=params)
            for _ in range(2)]  # fmt: skip
    assert [one.json() for one in sent] == [{"new": 1, "known": 1}, {"new": 0, "known": 2}]
    assert client.get("/api/v1/predictions/p-150").json()["prediction"]["label_classes"] == "[0]"


@pytest.mark.parametrize("kind", [CSV, PARQUET])
def test_a_table_of_units_says_whose_they_are(
    client: TestClient, seeded: Platform, kind: str
) -> None:
    """Without a model it is refused; with one a unit that asked nothing gets no label."""
    rows: list[dict[str, object]] = [{"unit": "nobody", "class": 1}]
    body = b"unit,class\nnobody,1\n" if kind == CSV else _parquet(rows)
    headers, params = {**_bearer(seeded), "Content-Type": kind}, {"source": "reviewers"}
    refused = client.post(PATH, content=body, headers=headers, params=params)
    assert (refused.status_code, "say which" in refused.text) == (400, True)
    told = client.post(PATH, content=body, headers=headers, params={**params, "model": "digits"})
    assert told.json() == {"new": 0, "known": 0}


@pytest.mark.parametrize(
    ("kind", "body", "params", "said"),
    [
        (CSV, TABLES[CSV], {}, "?source="),
        (CSV, TABLES[CSV], {"source": ""}, "source"),
        (CSV, TABLES[CSV], {"source": "x", "model": "No Such"}, "model"),
        (CSV, b"prediction_id,class\np-150,three\n", {"source": "x"}, "row 1: has no class"),
        (CSV, b"prediction_id,class\n\xff\xfe,1\n", {"source": "x"}, "body: is no CSV"),
        (PARQUET, TABLES[CSV], {"source": "x"}, "body: is no Parquet"),
        (PARQUET, b"", {"source": "x"}, "body: is no Parquet"),
    ],
)
def test_a_table_with_a_fault_adds_nothing(
    client: TestClient, seeded: Platform, kind: str, body: bytes, params: dict[str, str], said: str
) -> None:
    """Each fault is named, and of the table's good rows none is stored."""
    headers = {**_bearer(seeded), "Content-Type": kind}
    refused = client.post(PATH, content=body, headers=headers, params=params)
    assert refused.status_code == 400 and said in refused.text
    found = seeded.predictions.prediction("p-150")
    assert found is not None and found["label_classes"] is None


def test_a_table_of_too_many_rows_is_refused(
    client: TestClient, seeded: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held in memory is bounded, also where a small Parquet file holds many rows."""
    monkeypatch.setattr(domain, "MOST_ROWS", 1)
    headers, params = {**_bearer(seeded), "Content-Type": CSV}, {"source": "x"}
    refused = client.post(PATH, content=TABLES[CSV], headers=headers, params=params)
    assert (refused.status_code, "several tables" in refused.text) == (400, True)


def test_a_stranger_s_parameters_are_not_judged(client: TestClient) -> None:
    """Whoever has no token is told that, whatever else is wrong."""
    assert client.post(PATH, params={"model": "No Such"}).status_code == 401
