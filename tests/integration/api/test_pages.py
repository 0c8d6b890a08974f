import re
import shutil
import socket
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.e2e.made_models import classifier, register

from steelyard.api.app import create_app
from steelyard.bootstrap import Platform
from steelyard.domain import figures
from steelyard.domain.metering import UsageWindow
from steelyard.domain.rollout import CONTROLLER_LEASE, SECOND_US
from steelyard.domain.rollout_plan import Plan, Step, default_metrics
from steelyard.domain.traffic import BUCKETS
from steelyard.ports.applications import ApplicationState
from steelyard.services.outlooks import Scope
from steelyard.settings import Settings

pytestmark = pytest.mark.integration
BROWSER = {"accept": "text/html"}


def _text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def _row(html: str, name: str) -> list[str]:
    """The cells of the table row whose header begins with ``name``."""
    rows = [r for r in re.findall(r"<tr.*?</tr>", html, re.S) if f">{name}" in r]
    assert len(rows) == 1, name
    return [_text(cell) for cell in re.findall(r"<t[dh].*?</t[dh]>", rows[0], re.S)]


def test_a_new_installation_says_what_to_type(fresh: TestClient) -> None:
    """Nothing to show yet: the page names the first two commands."""
    page = fresh.get("/")
    assert page.status_code == 200
    assert "No models yet" in page.text
    assert "steelyard train" in page.text
    assert "steelyard deploy" in page.text


def test_the_list_of_models(client: TestClient) -> None:
    """Each model with what is served, what moves, what it cost, and when that balances."""
    html = client.get("/").text
    digits = _row(html, '<a href="/models/digits"')
    assert digits[:4] == ["digits", "version 1", "progressing version 2 at 5 %", "2,400"]
    assert digits[4:] == ["$0.00389", "$0.00667", "reached after about 1,400 requests"]
    assert _row(html, '<a href="/models/unpriced"')[4:] == ["–", "–", "unknown"]


def test_a_model_shows_its_balance_as_the_statement_has_it(
    client: TestClient, seeded: Platform
) -> None:
    """Device time, money, energy, carbon and computation of each side; estimates say so."""
    html = client.get("/models/digits").text
    statement = seeded.statements.model("digits")
    for name, side in (("Training ", statement.training), ("Serving ", statement.serving)):
        assert _row(html, name)[1:] == [
            figures.duration(side.device_us), figures.money(side.cost_nano),
            figures.energy(side.energy_mj), figures.carbon(side.carbon_ug),
            figures.carbon(side.embodied_ug), figures.flops(side.flop),
        ]  # fmt: skip
        assert _row(html, name).count("–") == 1, "embodied: nobody declared it for this device"
    assert "Energy (estimated)" in html


def test_unknown_is_a_dash_and_not_a_zero(client: TestClient) -> None:
    """Without a price and a power figure, cost, energy and carbon are dashes; time is known."""
    html = client.get("/models/unpriced").text
    assert _row(html, "Training ")[1:] == ["20 s", "–", "–", "–", "–", "31.2 GFLOP"]
    assert _row(html, "Serving ")[1:] == ["–"] * 6
    assert "$0" not in _text(html)
    assert "no inference was charged yet" in html


def test_break_even_is_told_in_words_and_marked_in_the_table(client: TestClient) -> None:
    """The chart's answer does not need the chart."""
    reached = client.get("/models/digits").text
    assert "Break-even reached" in reached
    assert "· break-even" in reached
    ahead = client.get("/models/wide").text
    assert "Break-even not reached" in ahead
    assert "after about 1,600 requests" in ahead
    assert "training so far: inference has to reach it" in ahead
    assert "· break-even" not in ahead


def test_versions_stand_beside_their_parents_figures(client: TestClient) -> None:
    """The compressed version with its evidence, what its parent measured, and the champion."""
    html = client.get("/models/digits").text
    assert "champion" in html
    for shown in ("241 kB", "parent 481 kB", "0.107 ms", "parent 0.214 ms", "96.9 %",
                  "parent 97.2 %", "n = 360", "99.2 %", "int8, quantized from 1"):  # fmt: skip
        assert shown in _text(html), shown
    assert "unknown: both versions must have served" in html


def test_a_visitor_chooses_the_days(client: TestClient) -> None:
    """A month, a span of days or everything; files keep the choice, nonsense is refused."""
    everything = client.get("/models/digits").text
    assert "everything so far" in everything
    old = client.get("/models/digits", params={"period": "2001-01"}).text
    assert "2001-01-01 to 2001-01-31" in old
    assert _row(old, "Training ")[1:] == ["–"] * 6
    assert "/models/digits.csv?period=2001-01" in old
    days = client.get("/models/digits", params={"from": "2001-01-01", "to": ""}).text
    assert 'name="from" value="2001-01-01"' in days
    assert _row(days, "Training ")[1:] == _row(everything, "Training ")[1:]
    assert client.get("/models/digits", params={"period": "soon"}).status_code == 400


def test_a_model_shows_how_sure_its_figures_are(client: TestClient) -> None:
    """Completeness, the method behind the energy, unit costs on both bases, and no forecast yet."""
    text = _text(client.get("/models/digits").text)
    assert "complete: 100 % of 121 windows" in text
    assert "100 % load model ±50 %" in text
    html = client.get("/models/digits").text
    assert _row(html, "Direct")[2] == "$0.000667"
    assert _row(html, "Fully loaded")[2] == "$0.00278"
    assert text.count("days are not known") == 1


def test_what_has_no_forecast_takes_one_line_and_not_a_row_each(client: TestClient) -> None:
    """Three measures at three ends would say the same nine times; the file has them all."""
    text = _text(client.get("/models/digits").text)
    why = "No forecast of cost, energy, carbon (operational) yet: "
    assert text.count(why) == 1
    assert "How sure" not in text
    lines = client.get("/models/digits.json").json()["forecast"]
    assert len(lines) == 9
    # Soon after midnight the seed's last day is a whole one.
    assert {line["missing_days"] for line in lines} <= {27, 28}


def test_a_model_shows_its_utilisation_or_why_it_is_not_known(
    client: TestClient, seeded: Platform
) -> None:
    """Each version's run with device and datatype, in words where a part is missing."""
    html = client.get("/models/wide").text
    assert "Model FLOPs utilisation" in html
    assert "unknown: no datatype was measured with it" in _text(html)
    (run,) = [v["run_id"] for v in seeded.catalog.versions("wide")]
    assert f'<code title="{run}">' in html
    (version,) = client.get("/models/wide.json").json()["versions"]
    assert {c["activity"] for c in version["account"]["compute"]} == {"train", "serve"}
    nothing = client.get("/models/wide", params={"period": "2001-01"}).text
    assert "Nothing was computed in these days" in nothing


def test_the_eus_threshold_is_told_on_the_page(client: TestClient, seeded: Platform) -> None:
    """A notice at the top, and in the file."""
    assert "Art. 51" not in client.get("/models/wide").text
    now = seeded.clock.now_us()
    (run,) = [v["run_id"] for v in seeded.catalog.versions("wide")]
    name = f"train/{run}/0"
    seeded.facts.ingest([
        UsageWindow(name, "large", 1, name, now, now + 1_000_000, "wide", None, "training",
                    "train", run, 2, busy_ns=10**9, flop=10**25),
    ], now)  # fmt: skip
    told = _text(client.get("/models/wide").text)
    assert "wide/1 and its ancestors took 10,000" in told
    assert "systemic risk is presumed (EU AI Act, Art. 51)." in told
    assert len(client.get("/models/wide.json").json()["notices"]) == 1


def test_a_budget_is_on_the_page_of_its_model(client: TestClient, seeded: Platform) -> None:
    """The model's own limit and its team's, with state and reasons."""
    seeded.budgets.assign("digits", "vision")
    seeded.budgets.set(Scope("model", "digits"), "cost_nano", "year", 10**12, 8_000, "ada")
    seeded.budgets.set(Scope("team", "vision"), "cost_nano", "year", 10**6, 8_000, "ada")
    text = _text(client.get("/models/digits").text)
    assert "ok Budget of model digits for this year: $0.0106 of $1,000.00 spent" in text
    assert "exceeded Budget of team vision for this year: $0.0106 of $0.001 spent" in text
    assert "Team vision." in text


def test_the_rollout_shows_steps_evidence_and_history(client: TestClient) -> None:
    """Where it is, what both versions answered, how that is judged, and what happened."""
    html = client.get("/models/digits/rollout").text
    text = _text(html)
    assert "<html" not in html
    assert "progressing Version 2 beside version 1:" in text
    assert "5 % present bakes 600 s, 50 requests" in text
    assert "1 stable ready 95 % 180 1 90 3" in text
    assert "2 candidate ready 5 % 20 0 10 0" in text
    assert "inconclusive errors (required): canary 0 of 20, stable 1 of 180" in text
    assert "controller advance progressing 5 %" in text
    assert 'hx-get="/models/digits/rollout"' in client.get("/models/digits").text


def test_each_candidate_has_an_analysis_of_its_own(client: TestClient, seeded: Platform) -> None:
    """Two that are compared with stable at once are judged apart."""
    store = seeded.rollout_store
    token = store.leases.acquire(CONTROLLER_LEASE, "test", seeded.clock.now_us(), 60 * SECOND_US)
    assert token is not None
    ready = {("digits", n): ApplicationState("ready") for n in (1, 2, 3)}

    def turn() -> None:
        seeded.rollouts.turns.all(ready, 0, token)
        for model, route in store.fleet.routes().items():
            seeded.rollouts.confirm(model, route.generation, token)

    seeded.rollouts.rollback("digits", "ada", "something else is tried")
    while store.open_rollouts("digits"):
        turn()
    assert register(seeded, "digits", classifier(3)) == 3
    plan = Plan((Step(1_000, 600.0), Step(BUCKETS)), default_metrics())
    seeded.rollouts.start_together("digits", (2, 3), plan, "ada", "a trial")
    turn()
    text = _text(client.get("/models/digits/rollout").text)
    assert "Version 3 beside it at 5 %" in text
    first, _, second = text.partition("Analysis of version 2")[2].partition("Analysis of version 3")
    assert all("inconclusive errors" in part for part in (first, second))
    document = client.get("/models/digits/rollout.json").json()
    assert [one["rollout"]["candidate"] for one in document["beside"]] == [3]
    assert document["beside"][0]["verdicts"]


def test_a_model_that_was_never_deployed_says_how(client: TestClient) -> None:
    """The rollout part of such a model names the command."""
    assert "steelyard deploy wide/1" in client.get("/models/wide/rollout").text


def test_a_prediction_shows_everything_behind_it(client: TestClient) -> None:
    """Version, digest, run, parent, rollout, step, bucket and cost; spaces in the form are fine."""
    page = client.get("/predictions", params={"id": " p-10 "})
    assert page.url.path == "/predictions/p-10"
    text = _text(page.text)
    for shown in ("digits/2 answered this", "Arm canary", "Bucket 10 of 10,000", "Step 1",
                  "Relation quantized", "Parent version 1", "d" * 64, "$0.000000017"):  # fmt: skip
        assert shown in text, shown


@pytest.mark.parametrize(
    "path", ["/models/nope", "/models/nope/rollout", "/predictions/nope", "/nowhere"]
)
def test_what_does_not_exist_is_404_for_browsers_and_programs(
    client: TestClient, path: str
) -> None:
    """A browser gets a page with a way back, a program gets error and hint."""
    shown = client.get(path, headers=BROWSER)
    assert shown.status_code == 404
    assert 'href="/"' in shown.text
    told = client.get(path)
    assert told.status_code == 404
    assert set(told.json()) == {"error", "hint"}


def test_names_from_outside_are_text_and_not_markup(client: TestClient) -> None:
    """A name that looks like HTML is shown, not run."""
    shown = client.get("/models/<script>alert(1)<%2Fscript>", headers=BROWSER)
    assert shown.status_code == 404
    assert "<script>alert" not in shown.text


def test_pages_survive_a_registry_that_does_not_answer(
    seeded_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry accepts and stays silent: figures are shown, evidence is unknown."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    home = tmp_path / "home"
    shutil.copytree(seeded_home, home)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        platform = Platform(Settings(home=home, mlflow_uri=uri))
        with TestClient(create_app(platform), base_url="http://localhost") as client:
            html = client.get("/models/digits").text
            assert "The registry did not answer" in html
            assert "$0.00389" in html
            assert client.get("/models/digits.json").json()["registry_answered"] is False
            assert client.get("/models/digits/rollout").status_code == 200
        platform.engine.dispose()
