"""``steelyard ledger``, as people type it."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from steelyard.bootstrap import Platform
from steelyard.cli.app import FAILED, OK, USAGE
from steelyard.domain.metering import Resource, SupplyWindow, UsageWindow

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(seeded: Platform, typed: Callable[..., Ask]) -> Ask:
    """Types a command on the seeded home: exit code, standard output, standard error."""
    return typed(seeded, "ledger")


def test_the_report_has_stable_keys_with_units(told: Callable[..., dict[str, Any]]) -> None:
    """Five measures, two bases, completeness, tiers; unknown is null."""
    document = told("report", "--model", "digits")
    assert set(document) == {"schema_version", "basis", "first_day", "last_day", "models", "teams",
                             "ledger"}  # fmt: skip
    (model,) = document["models"]
    measures = {"device_us", "cost_nano", "energy_mj", "carbon_ug", "embodied_ug", "flop"}
    for basis in ("usage", "allocation"):
        for phase in ("training", "inference"):
            assert set(model["bases"][basis][phase]) == measures
    assert model["training"]["embodied_ug"] is None
    assert model["completeness"]["share"] == 1.0
    assert model["energy_by_tier_share"] == {"modelled_load": 1.0}
    assert model["versions"][1]["pay_back"]["verdict"] == "unknown"
    assert model["versions"][1]["upstream"]["ancestors"] == ["digits/1"]
    assert model["per_1000"]["allocation"]["cost_nano"]["value"] == 2_777_780
    assert document["ledger"]["supply"]["cost_nano"] == 22_083_351


def test_the_report_is_narrowed_by_version_days_and_team(
    ask: Ask, told: Callable[..., dict[str, Any]]
) -> None:
    """One version; a month without anything; one team's models."""
    one = told("report", "--model", "digits", "--version", "2")["models"][0]
    assert [v["version"] for v in one["versions"]] == [2]
    old = told("report", "--model", "digits", "--period", "2001-02")
    assert (old["first_day"], old["last_day"]) == ("2001-02-01", "2001-02-28")
    assert old["models"][0]["training"]["cost_nano"] is None
    assert ask("team", "digits", "vision")[0] == OK
    team = told("report", "--team", "vision")
    assert [m["model"] for m in team["models"]] == ["digits"]
    assert team["teams"][0]["training"]["cost_nano"] == 3_888_892
    assert ask("report", "--team", "nobody")[0] == FAILED
    assert "It knows: digits" in ask("report", "--model", "nothing")[2]
    assert ask("report", "--model", "digits", "--version", "9")[0] == FAILED


def test_the_report_reads_like_a_balance(ask: Ask) -> None:
    """Both bases, how sure it is, what the whole ledger comes to."""
    _, loaded, _ = ask("report")
    assert "of it idle" in loaded
    assert "energy found by: 100 % load model ±50 %" in loaded
    assert "complete: 100 % of" in loaded
    assert "The whole ledger" in loaded
    assert "upstream training" in loaded
    _, direct, _ = ask("report", "--model", "digits", "--basis", "usage")
    assert "of it idle" not in direct
    assert "basis usage" in direct


def test_the_report_tells_utilisation_or_what_is_missing_for_it(
    ask: Ask, told: Callable[..., dict[str, Any]], seeded: Platform
) -> None:
    """Unknown with a reason; with a datatype and a declared peak of one's own, a percentage."""
    line = told("report", "--model", "digits")["models"][0]["versions"][0]["compute"][0]
    assert (line["activity"], line["device_model"]) == ("train", "generic-vcpu")
    assert (line["mfu"], line["mfu_unknown"]) == (None, "no datatype was measured with it")
    assert "unknown: no datatype was measured with it" in ask("report", "--model", "digits")[1]
    now = seeded.clock.now_us()
    name, flop = "train/mine/0", 10**9
    seeded.facts.ingest([
        Resource(name, "train_worker", "generic-vcpu", 1, 1, "vcpu-hour", now, "DEU"),
        SupplyWindow(name, "b", 2, name, now, now + 1_000_000, 1_000_000),
        UsageWindow(name, "b", 1, name, now, now + 1_000_000, "mine", None, "training", "train",
                    "mine", 1, busy_ns=10**9, flop=flop, datatype="fp32"),
    ], now)  # fmt: skip
    assert "unknown: no peak of generic-vcpu/fp32 is declared" in ask("report")[1]
    declared = ask("coefficients", "add", "--kind", "peak_flops", "--key", "generic-vcpu/fp32",
                   "--value", "4000000000", "--unit", "FLOP/s", "--source", "our processor's sheet",
                   "--licence", "ours", "--valid-from", "2020-01-01")  # fmt: skip
    assert declared[0] == OK, declared
    (line,) = told("report", "--model", "mine")["models"][0]["versions"][0]["compute"]
    assert (line["mfu"], line["peak_flop_per_s"], line["flop"]) == (0.25, 4e9, flop)
    assert " 25 % " in ask("report", "--model", "mine")[1]


def test_a_model_that_reaches_the_eus_threshold_is_told(
    ask: Ask, told: Callable[..., dict[str, Any]], seeded: Platform
) -> None:
    """A run of 10^25 FLOP under version 1 of two: both are named, in text and in JSON."""
    assert told("report", "--model", "digits")["models"][0]["notices"] == []
    now = seeded.clock.now_us()
    run_id = next(v["run_id"] for v in seeded.catalog.versions("digits") if v["version"] == 1)
    name = f"train/{run_id}/0"
    seeded.facts.ingest([
        UsageWindow(name, "large", 1, name, now, now + 1_000_000, "digits", None, "training",
                    "train", run_id, 2, busy_ns=10**9, flop=10**25),
    ], now)  # fmt: skip
    notices = told("report", "--model", "digits")["models"][0]["notices"]
    assert [text.split()[0] for text in notices] == ["digits/1", "digits/2"]
    shown = ask("report", "--model", "digits")[1]
    assert "notice: digits/2 and its ancestors took" in shown
    assert "EU AI Act, Art. 51" in shown


@pytest.mark.parametrize(
    "words",
    [
        ("report", "--basis", "both"),
        ("report", "--version", "1"),
        ("report", "digits"),
        ("report", "--period", "soon"),
        ("report", "--from", "2026-11-02", "--to", "2026-11-01"),
        ("verify", "--head", "12"),
        ("post", "--value-anew", "recently"),
        ("budget", "set", "10"),
        ("budget", "set", "10", "--model", "digits", "--team", "vision"),
        ("budget", "set", "0", "--model", "digits"),
        ("budget", "set", "much", "--model", "digits"),
        ("budget", "set", "1", "--model", "digits", "--period", "week"),
        ("budget", "set", "1", "--model", "digits", "--measure", "time"),
        ("budget", "withdraw"),
        ("budget", "withdraw", "--model", "digits", "--measure", "time"),
        ("budget", "withdraw", "--model", "digits", "--period", "week"),
        ("team", "digits", "No Team"),
        ("forecast", "--growth", "x"),
        ("forecast", "--growth", "-100"),
        ("forecast", "--model", "digits", "--team", "vision"),
        ("reverse", "b", "--reason", " "),
        ("entries", "--limit", "0"),
    ],
    ids=" ".join,
)
def test_malformed_input_is_refused_as_usage(ask: Ask, words: tuple[str, ...]) -> None:
    """Exit code 2, an explanation, nothing on standard output."""
    code, out, err = ask(*words)
    assert (code, out) == (USAGE, ""), err
    assert "Traceback" not in err


def test_scenarios_are_a_report_without_a_ledger(ask: Ask) -> None:
    """All of them, or one by name."""
    assert "refuted" in ask("report", "--scenario")[1]
    assert "w1-gpt3-daily-bill" in ask("report", "--scenario", "w1-gpt3-daily-bill", "--json")[1]


def test_a_forecast_without_history_says_what_is_missing(
    told: Callable[..., dict[str, Any]],
) -> None:
    """Every measure and period is there; what is not known is null."""
    document = told("forecast", "--model", "digits")
    lines = document["forecasts"]
    assert {(f["measure"], f["period"]) for f in lines} == {
        (m, p)
        for m in ("cost_nano", "energy_mj", "carbon_ug", "embodied_ug", "device_us")
        for p in ("month", "quarter", "year")
    }
    assert all(f["expected"] is None and f["missing_days"] >= 27 for f in lines)
    assert document["completeness_share"] == 1.0
    assert told("forecast")["scope_kind"] == "all"


def test_a_budget_is_set_in_the_units_of_people_and_listed_in_the_ledgers(
    told: Callable[..., dict[str, Any]], ask: Ask
) -> None:
    """A hundredth of a dollar a month is 10,000,000 nano-USD, and was exceeded."""
    words = ("budget", "set", "0.01", "--model", "digits", "--period", "year")
    line = told(*words)["budget"]
    assert (line["limit"], line["state"]) == (10_000_000, "exceeded")
    told("budget", "set", "3", "--model", "wide", "--measure", "energy", "--period", "quarter")
    listed = told("budget", "list")["budgets"]
    assert [(b["scope"], b["measure"]) for b in listed] == [
        ("digits", "cost_nano"), ("wide", "energy_mj"),
    ]  # fmt: skip
    assert "exceeded" in ask("budget", "list", "--model", "digits")[1]
    assert ask("budget", "set", "1", "--model", "nothing")[0] == FAILED


def test_a_limit_is_withdrawn_once(told: Callable[..., dict[str, Any]], ask: Ask) -> None:
    """What is printed names it; a second time there is nothing to withdraw."""
    told("budget", "set", "5", "--model", "digits")
    code, out, _ = ask("budget", "withdraw", "--model", "digits")
    assert code == 0 and "model digits: the limit of $5.00 a month counts no more" in out
    assert told("budget", "list")["budgets"] == []
    code, out, err = ask("budget", "withdraw", "--model", "digits")
    assert (code, out) == (FAILED, "") and "No limit of cost" in err
    told("budget", "set", "5", "--model", "digits")
    gone = told("budget", "withdraw", "--model", "digits")["withdrawn"]
    assert (gone["kind"], gone["amount"]) == ("withdrawal", 5_000_000_000)


def test_a_noted_head_shows_that_the_end_was_cut_off(ask: Ask, seeded: Platform) -> None:
    """Verify accepts yesterday's head, and refuses one whose entry is gone or another."""
    code, out, _ = ask("verify")
    head = re.search(r"head (\d+:[0-9a-f]{64})", out)
    assert code == OK and head
    assert ask("verify", "--head", head[1])[0] == OK
    seq, digest = head[1].split(":")
    assert "is not the one that was noted" in ask("verify", "--head", f"{seq}:{'0' * 64}")[2]
    gone = ask("verify", "--head", f"{int(seq) + 1}:{digest}", "--json")
    assert gone[0] == FAILED
    assert json.loads(gone[1])["ok"] is False
    assert "is gone: the ledger ends at" in gone[2]


def test_a_batch_is_listed_reversed_once_and_then_not_again(
    ask: Ask, told: Callable[..., dict[str, Any]]
) -> None:
    """The reversal is one more batch; the second one is refused; an unknown one is not found."""
    listed = told("entries", "--model", "wide", "--since-seq", "1", "--limit", "1")["entries"]
    batch = listed[0]["batch_id"]
    assert told("reverse", batch, "--reason", "a rehearsal")["entries"] > 0
    newest = told("entries", "--limit", "1")["entries"][0]
    assert (newest["kind"], newest["reason"]) == ("reversal", "a rehearsal")
    assert "was reversed before" in ask("reverse", batch, "--reason", "again")[2]
    assert ask("reverse", "none", "--reason", "none")[0] == FAILED


def test_posting_may_be_repeated_and_values_anew_only_what_changed(
    told: Callable[..., dict[str, Any]], seeded: Platform
) -> None:
    """Nothing waits, nothing changed; after a new price the hours are valued anew, once."""
    assert told("post")["entries"] == 0
    since = (datetime.now(UTC) - timedelta(days=2)).date().isoformat()
    words = ("prices", "add", "--sku", "vcpu-hour", "--price", "1", "--source", "an invoice")
    told(*words, "--valid-from", since)
    done = told("post", "--value-anew", since)
    assert done["hours_valued_anew"] > 0
    assert done["entries"] > 0
    assert told("post", "--value-anew", f"{since}T00:00:00+00:00")["hours_valued_anew"] == 0
    model = told("report", "--model", "digits")["models"][0]
    assert model["training"]["cost_nano"] == pytest.approx(20 * 3_888_892, rel=1e-4)


def test_a_month_that_is_not_over_stays_open(ask: Ask, seeded: Platform) -> None:
    """Neither this month nor one in which nothing was booked can be closed."""
    assert "is not over" in ask("close", f"{datetime.now(UTC):%Y-%m}")[2]
    assert ask("close", "2001-01")[0] == FAILED
    with seeded.engine.connect() as connection:
        assert connection.execute(text("select status from period")).scalars().all().count("open")


def test_a_reservation_is_declared_once(ask: Ask, told: Callable[..., dict[str, Any]]) -> None:
    """Its capacity is in the books with its term; another one under its SKU is refused."""
    term = ("--devices", "2", "--from", "2026-01-01", "--until", "2027-01-01")
    document = told("reserve", "gpu-reserved", *term)
    assert (document["device_count"], document["price_sku"]) == (2, "gpu-reserved")
    assert document["until_us"] - document["started_us"] == 365 * 86_400_000_000
    code, _, err = ask("reserve", "gpu-reserved", *term)
    assert code == FAILED and "its own SKU" in err
    code, _, err = ask("reserve", "other", "--devices", "1", "--from", "2026-01-02", "--until",
                       "2026-01-01")  # fmt: skip
    assert code == USAGE and "--until" in err
