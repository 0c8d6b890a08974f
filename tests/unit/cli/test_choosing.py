"""``steelyard models pareto | recommend``, as people type them, on a real registry and ledger."""

import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.registry_client import client_of

from steelyard.bootstrap import Platform
from steelyard.bootstrap.runtimes import hardware_profile
from steelyard.cli.app import FAILED, OK, USAGE
from steelyard.domain.evidence import Evidence, Figures, Speed
from steelyard.domain.evidence_intervals import share_interval
from steelyard.domain.metering import Resource, SupplyWindow, UsageWindow
from steelyard.domain.model_version import Candidate, Signature
from steelyard.domain.recommend import WORTH_TRYING
from steelyard.settings import Settings

LABELS = 10_000
SECOND = 1_000_000
Ask = Callable[..., tuple[int, str, str]]
WANTED = ("--requests-per-day", "1000000", "--latency-class", "100ms", "--max-loss", "0.5")


def _figures(ms: float) -> Figures:
    return Figures(speeds=(Speed(1, ms, 1.5 * ms, 2 * ms, ms),), energy_mj=5 * ms,
                   energy_method="modelled_load")  # fmt: skip


def _evidence(right: int, ms: float, size: int, hardware: str = "") -> Evidence:
    interval = share_interval(right, LABELS)
    return Evidence(
        size_bytes=size, accuracy=right / LABELS, examples=LABELS, latency_ms_p50=ms,
        latency_ms_p95=1.5 * ms, hardware=hardware_profile() | ({"runtime": hardware} if hardware
        else {}), data_sha256="d" * 64, labels=LABELS, chance=0.1, accuracy_low=interval.low,
        accuracy_high=interval.high, own=_figures(ms),
    )  # fmt: skip


def _beside(evidence: Evidence, lost: int, won: int) -> Evidence:
    return replace(
        evidence, parent_size_bytes=1_200_000, parent_accuracy=0.92, parent_latency_ms_p50=0.4,
        parent_latency_ms_p95=0.6, parent_only_right=lost, own_only_right=won,
        parent=_figures(0.4),
    )  # fmt: skip


def _register(
    platform: Platform, model: str, variant: str, evidence: Evidence | None, parent: int | None
) -> None:
    info = client_of(platform).create_run("0").info
    digest = sha256(f"{model}{variant}".encode()).hexdigest()
    if evidence is not None:
        evidence = replace(evidence, artifact_sha256=digest)
    platform.registry.register(
        Candidate(model, info.run_id, f"{info.artifact_uri}/model", "model.onnx", digest, 1,
                  variant, "quantized" if parent else "trained", Signature((), ()), parent=parent,
                  evidence=evidence)
    )  # fmt: skip


def _serve(platform: Platform) -> None:
    """Ten seconds of fashion/1: 1,000 requests of a millisecond each at 0.05 dollars an hour."""
    start, name = platform.clock.now_us() - 3_600 * SECOND, "serve/fashion/1/0"
    end = start + 10 * SECOND
    platform.facts.ingest([
        Resource(name, "replica", "generic-vcpu", 1, 1, "vcpu-hour", start, "DEU"),
        SupplyWindow(name, "b", 0, name, start, end, 10 * SECOND),
        UsageWindow(name, "b", 1, name, start, end, "fashion", 1, "inference", "serve",
                    requests=1_000, items=1_000, busy_ns=10**9),
    ], end)  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with four variants, one of them measured on another runtime and one not at all."""
    home = tmp_path_factory.mktemp("choosing")
    platform = Platform(Settings(home=home))
    _register(platform, "fashion", "fp32", _evidence(9_200, 0.4, 1_200_000), None)
    for variant, found in (
        ("int8_static", _beside(_evidence(9_198, 0.1, 350_000), 60, 58)),
        ("int8_dynamic", _beside(_evidence(9_199, 0.9, 330_000, "onnxruntime 0"), 60, 59)),
        ("pruned_structured", _beside(_evidence(9_050, 0.05, 300_000), 300, 150)),
        ("fp16", None),
    ):
        _register(platform, "fashion", variant, found, 1)
    _register(platform, "shoes", "fp32", _evidence(9_200, 0.4, 1_200_000), None)
    _register(platform, "shoes", "distilled", _beside(_evidence(9_199, 0.02, 90_000), 9, 8), 1)
    _register(platform, "boots", "fp32", None, None)
    _serve(platform)
    platform.learn_versions()
    platform.books.post()
    platform.engine.dispose()
    return home


@pytest.fixture
def ask(home: Path, typed_at: Callable[..., Ask]) -> Ask:
    """Types a command of ``models`` on that home: exit code, standard output, standard error."""
    return typed_at(home, "models")


def test_the_table_says_who_is_on_the_front_and_what_cannot_be_compared(ask: Ask) -> None:
    """By latency: the stale record is marked, the unmeasured version is unknown."""
    code, out, _ = ask("pareto", "fashion")
    assert code == OK
    lines = {line.split("│")[2].strip(): line for line in out.splitlines() if "│" in line}
    assert "on the front" in lines["int8_static"]
    assert "0.15 ms" in lines["int8_static"]
    assert "on the front" in lines["fp32 (baseline)"]
    assert "measured on other hardware" in lines["int8_dynamic"]
    assert "unknown: no measured evidence" in lines["fp16"]
    assert "10,000 held-out labels" in out


@pytest.mark.parametrize(
    ("against", "unit", "cost"),
    [("latency", "ms", 0.15), ("size", "bytes", 350_000), ("energy", "mJ", 0.5),
     ("cpu", "ms", 0.1), ("cost", "nUSD", 0.1 * 50_000_000 / 3_600)],
)  # fmt: skip
def test_every_cost_has_its_unit_and_exact_figures(
    told: Callable[..., dict[str, Any]], against: str, unit: str, cost: float
) -> None:
    """Hardware decides all but the size of the file, so only there the stale record counts."""
    document = told("pareto", "fashion", "--against", against)
    assert document["unit"] == unit
    versions = {v["variant"]: v for v in document["versions"]}
    assert versions["int8_static"]["cost"] == pytest.approx(cost)
    assert versions["int8_dynamic"]["place"] == ("front" if against == "size" else "apart")
    assert versions["fp16"]["cost"] is None
    assert (document["price_id"] is None) == (against != "cost")


@pytest.mark.parametrize("name", ["front.svg", "front.png"])
def test_the_picture_is_drawn_and_the_same_versions_make_the_same_bytes(
    ask: Ask, tmp_path: Path, name: str
) -> None:
    """A vector for papers, pixels for pages."""
    again = tmp_path / f"again-{name}"
    for file in (tmp_path / name, again):
        assert ask("pareto", "fashion", "--out", str(file))[0] == OK
    drawn = again.read_bytes()
    assert drawn == (tmp_path / name).read_bytes()
    assert (b"<svg" in drawn) if name.endswith("svg") else drawn.startswith(b"\x89PNG")


def test_nothing_is_drawn_where_nothing_is_known(ask: Ask, tmp_path: Path) -> None:
    """An empty picture would look like a result; the table says what is missing."""
    file = tmp_path / "front.png"
    code, _, err = ask("pareto", "boots", "--out", str(file))
    assert (code, file.exists()) == (FAILED, False)
    assert "There is nothing to draw: boots has no known figure (no measured evidence)." in err
    assert "boots: nothing was measured yet." in ask("pareto", "boots")[1]


def test_without_matplotlib_there_is_a_table_and_the_way_to_a_picture(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control plane installs without it."""
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = ask("pareto", "fashion", "--out", str(tmp_path / "front.svg"))
    assert (code, "Install steelyard[workflows]" in err) == (FAILED, True), err
    assert ask("pareto", "fashion")[0] == OK


def test_the_cheapest_variant_that_passes_is_named_with_the_arithmetic(
    told: Callable[..., dict[str, Any]],
) -> None:
    """The pruned one is cheaper and loses too much; a request's own time in the replica stays."""
    document = told("recommend", "fashion", *WANTED)
    assert (document["serve"], document["baseline"]) == (2, 1)
    versions = {v["variant"]: v for v in document["versions"]}
    # A millisecond of a replica, of which 0.4 are the network's own; INT8 takes 0.1 of them.
    hourly, per_ms = 50_000_000, 3_600_000
    assert versions["fp32"]["cost_basis"] == "ledger"
    assert versions["fp32"]["per_1000_nano"] == round(1_000 * hourly / per_ms)
    assert versions["int8_static"]["cost_basis"] == "evidence"
    assert versions["int8_static"]["per_1000_nano"] == pytest.approx(700 * hourly / per_ms, abs=1)
    assert versions["int8_static"]["making_to_pay_nano"] == 0
    assert not versions["pruned_structured"]["passes"]
    assert "quality" in versions["pruned_structured"]["why"]
    assert "latency_class unknown" in versions["int8_dynamic"]["why"]
    assert versions["fp16"]["why"] == "no measured evidence"
    assert "  1,000,000 requests a day × 90 days = 90,000,000 requests" in document["arithmetic"]


def test_a_kind_that_was_measured_beside_another_parent_is_predicted_from_it(
    told: Callable[..., dict[str, Any]],
) -> None:
    """Its making was never booked, so its cost and with it the pay-back are not proven."""
    kinds = {k["kind"]: k for k in told("recommend", "fashion", *WANTED)["kinds"]}
    assert kinds["distilled"]["measured"] == ["shoes/2"]
    assert (kinds["distilled"]["passes"], kinds["distilled"]["pay_back"]) == (True, "not_proven")
    assert kinds["distilled"]["making_nano"] is None
    assert kinds["distilled"]["worth_nano"] > 0
    assert kinds["int4_weight_only"]["measured"] == []
    assert kinds["int4_weight_only"]["pay_back"] == "unknown"
    assert "int8_static" not in kinds


def test_where_none_passes_it_says_so_and_what_to_make(ask: Ask) -> None:
    """A class of 0.1 ms: of the kinds, only the student of the other parent was ever as fast."""
    words = ("--requests-per-day", "10", "--latency-class", "0.1ms", "--max-loss", "0.5")
    code, out, _ = ask("recommend", "fashion/1", *words)
    assert code == OK
    assert "Serve: none of the versions of fashion/1 passes." in out
    assert "steelyard compress fashion/1 --variant distilled" in out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("pareto", "nothing"), FAILED, "nothing"),
        (("pareto", "fashion", "--out", "front.pdf"), USAGE, "neither .svg nor .png"),
        (("pareto", "fashion", "--out", "no-folder-here/front.svg"), USAGE, "there is no folder"),
        (("recommend", "fashion@gone", *WANTED), FAILED, "has no alias"),
        (("recommend", "fashion", *WANTED[:3], "soon", *WANTED[4:]), USAGE, "is no time"),
        (("recommend", "fashion", *WANTED[:5], "little"), USAGE, "no number of points"),
        (("recommend", "fashion", *WANTED, "--horizon-days", "0"), USAGE, "is above 0"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_reason(
    ask: Ask, words: tuple[str, ...], code: int, said: str
) -> None:
    """Exit code 2 for what is malformed, 1 for what does not exist."""
    found, _, err = ask(*words)
    assert (found, said in err) == (code, True), err


@pytest.mark.parametrize("kind", WORTH_TRYING)
def test_every_kind_that_is_suggested_can_be_made(kind: str) -> None:
    """What the answer tells people to type is a kind that compressing knows, in a legal order."""
    from steelyard_workflows.variants.steps import steps_of

    assert "+".join(step.kind.name for step in steps_of(kind, {})) == kind


def test_before_a_variant_is_made_it_is_said_what_it_would_earn(home: Path) -> None:
    """From shoes' distilled variant at fashion's traffic; without traffic nothing is said."""
    platform = Platform(Settings(home=home))
    fashion, shoes = (platform.registry.version(name, 1) for name in ("fashion", "shoes"))
    found = platform.choosing.earning(fashion, "distilled", 10**6)
    assert found is not None and found.requests_per_day
    one = found.prospect
    assert [seen.name for seen in one.kind.precedents] == ["shoes/2"]
    assert one.verdict == "not_proven" and one.pay_back.requests is not None
    assert one.making_nano is not None and one.making_nano[1] == 10**6
    unmeasured = platform.choosing.earning(fashion, "int4_weight_only", None)
    assert unmeasured is not None and unmeasured.prospect.verdict == "unknown"
    assert platform.choosing.earning(shoes, "distilled", 10**6) is None
    platform.engine.dispose()
