"""``/metrics``: what Prometheus scrapes, read by its own parsers."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from steelyard.bootstrap import Platform
from steelyard.bootstrap.counting import counter_file
from steelyard.domain.serving_counters import SLOTS, Served
from steelyard.services.outlooks import Scope

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
Ask = Callable[..., float]


@pytest.fixture
def text(client: TestClient, seeded: Platform) -> str:
    """The document of a platform with a history, two replicas' counters and a budget."""
    for boot in ("a", "b"):
        file = counter_file(seeded.settings, boot, Served("digits", 1, 'f"p\n32'))
        for name, count in (("code_200", 3), ("bucket_50000", 2), ("bucket_inf", 1),
                            ("duration_ns", 1_500_000_000), ("queue_ns", 500_000_000),
                            ("rows", 12), ("batches", 4), ("shadow_dropped", 1)):  # fmt: skip
            file.counts[SLOTS.index(name)] = count
    seeded.budgets.set(Scope("model", "digits"), "cost_nano", "month", 5_000_000_000, 8_000, "ada")
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return answer.text


@pytest.fixture
def value(text: str) -> Ask:
    """Looks a sample up by its name and some of its labels; there must be exactly one."""
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]

    def value(name: str, **labels: str) -> float:
        named = [s for s in samples if s.name == f"steelyard_{name}"]
        found = [s.value for s in named if labels.items() <= s.labels.items()]
        assert len(found) == 1, (name, labels, found)
        return float(found[0])

    return value


def test_inference_is_counted_over_all_replicas(value: Ask) -> None:
    """Two replicas' counters add up; buckets are cumulative; odd names are quoted."""
    version = {"model": "digits", "version": "1", "variant": 'f"p\n32'}
    assert value("inference_requests_total", code="200", **version) == 6
    for bound, count in (("0.025", 0), ("0.05", 4), ("0.1", 4), ("0.3", 4), ("1", 4), ("+Inf", 6)):
        assert value("inference_duration_seconds_bucket", le=bound, **version) == count
    assert value("inference_duration_seconds_count", **version) == 6
    assert value("inference_duration_seconds_sum", **version) == 3.0
    assert value("inference_queue_seconds_sum", **version) == 1.0
    assert value("inferences_total", **version) == 24
    assert value("inference_batches_total", **version) == 8
    assert value("shadow_copies_total", outcome="dropped", **version) == 2


def test_the_ledgers_totals_are_its_own(value: Ask, seeded: Platform) -> None:
    """Cost of a version by phase equals the statement's, idle time included, in whole dollars."""
    (first, *_) = seeded.statements.model("digits").versions
    both = first.bases["allocation"]
    for phase, measures in (("training", both.training), ("inference", both.inference)):
        assert measures.cost_nano is not None
        assert measures.device_us is not None
        labels = {"model": "digits", "version": "1", "phase": phase}
        found = value("cost_total", currency="USD", **labels)
        assert found == pytest.approx(measures.cost_nano / 1e9)
        assert value("device_seconds_total", **labels) == measures.device_us / 1e6


def test_weights_phases_budgets_and_the_ledgers_health_are_told(
    value: Ask, seeded: Platform
) -> None:
    """The canary has 5 %, the rollout progresses, nothing waits, nothing was refused."""
    assert value("rollout_weight_ratio", model="digits", version="1") == 0.95
    assert value("rollout_weight_ratio", model="digits", version="2") == 0.05
    assert value("rollout_phase", model="digits", phase="progressing") == 1
    assert value("rollout_phase", model="digits", phase="healthy") == 0
    assert value("budget_limit", scope="model/digits", currency="USD") == 5.0
    assert value("budget_spent", scope="model/digits", currency="USD") >= 0
    assert value("ledger_lag_seconds") == 0
    assert value("ledger_write_failures_total") == 0
    assert value("build_info") == 1


def test_what_waits_for_the_ledger_is_lag(client: TestClient, seeded: Platform) -> None:
    """A segment that nobody collects grows older, and a damaged one is counted."""
    spool = seeded.settings.spool_dir
    spool.mkdir(exist_ok=True)
    (spool / "boot-00000001.jsonl").write_text("")
    (spool / "boot-00000002.damaged").write_text("")
    families = text_string_to_metric_families(client.get("/metrics").text)
    found = {s.name: s.value for family in families for s in family.samples if not s.labels}
    assert found["steelyard_ledger_lag_seconds"] > 0
    assert found["steelyard_ledger_write_failures_total"] == 1


def test_a_platform_that_has_seen_nothing_has_metrics_all_the_same(fresh: TestClient) -> None:
    """No model, no sample about one, and no error."""
    families = {f.name for f in text_string_to_metric_families(fresh.get("/metrics").text)}
    assert families == {
        "steelyard_build_info", "steelyard_ledger_lag_seconds", "steelyard_ledger_write_failures",
    }  # fmt: skip


def test_prometheus_own_linter_finds_nothing(text: str) -> None:
    """Names, units and help texts are as ``promtool check metrics`` wants them."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; Debian has it in the package prometheus")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_metric_is_documented(text: str) -> None:
    """The reference page names each family, and none that is not there."""
    page = (ROOT / "docs/reference/metrics.md").read_text()
    documented = set(re.findall(r"^\| `(steelyard_[a-z_0-9]+)`", page, re.MULTILINE))
    assert documented == set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
