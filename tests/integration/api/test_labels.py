from typing import Any

import pytest
from fastapi.testclient import TestClient

from steelyard.api.credentials import api_token
from steelyard.api.labels import BODY_LIMIT
from steelyard.bootstrap import Platform

pytestmark = pytest.mark.integration
PATH = "/api/v1/labels"
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
