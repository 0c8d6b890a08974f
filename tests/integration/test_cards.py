"""Lineage and model cards as people type them, on a real registry, tracker and ledger."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
import yaml
from tests.registry_client import client_of

from steelyard.bootstrap import Platform
from steelyard.bootstrap.runtimes import hardware_profile
from steelyard.domain.evidence import Evidence, Figures, Slice
from steelyard.domain.facts import Fact
from steelyard.domain.metering import Activity, Resource, RunAttempt, SupplyWindow, UsageWindow
from steelyard.domain.model_version import Candidate, Signature, TensorSpec
from steelyard.settings import Settings

pytestmark = pytest.mark.integration

SECOND = 1_000_000
RECIPE = '{"format":1,"kind":"int8_static","parent":{"name":"digits/1"}}'
WORKFLOW = "model: digits\nrecipe: digits_cnn\n"
TENSOR = TensorSpec("x", "FP32", (-1, 64))
Command = Callable[..., tuple[int, str, str]]


def evidence_of(digest: str, beside: bool) -> Evidence:
    """What was measured here of 360 rows; a variant was measured beside its parent."""
    parent: dict[str, Any] = {
        "parent_size_bytes": 400, "parent_accuracy": 0.97, "agreement": 0.99,
        "parent_latency_ms_p50": 0.2, "parent_latency_ms_p95": 0.3, "parent_only_right": 2,
        "own_only_right": 1, "parent": Figures(energy_mj=1.5, energy_method="modelled_load"),
    }  # fmt: skip
    return Evidence(
        size_bytes=100, accuracy=0.967, examples=360, latency_ms_p50=0.1, latency_ms_p95=0.15,
        hardware=hardware_profile(), artifact_sha256=digest, data_sha256="d" * 64, labels=360,
        chance=0.1, accuracy_low=0.943, accuracy_high=0.981,
        own=Figures(energy_mj=1.0, energy_method="modelled_load"),
        slices=(Slice("8", 35, 0.88),), **(parent if beside else {}),
    )  # fmt: skip


def register(
    platform: Platform, experiment: str, variant: str, relation: Any, parent: int | None,
    **files: str,
) -> str:  # fmt: skip
    """A version with its run, the run's files, and its evidence; the run's id."""
    client = client_of(platform)
    info = client.create_run(experiment).info
    folder = Path(urlparse(info.artifact_uri).path)
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8")
    digest = sha256(variant.encode()).hexdigest()
    recipe = files.get("recipe_json")
    platform.registry.register(
        Candidate(
            "digits", info.run_id, f"{info.artifact_uri}/model", "model.onnx", digest, 100,
            variant, relation, Signature((TENSOR,), (TENSOR,)), parent=parent,
            evidence=evidence_of(digest, parent is not None),
            recipe_sha256=sha256(recipe.encode()).hexdigest() if recipe else None,
        )
    )  # fmt: skip
    return str(info.run_id)


def book(platform: Platform, run_id: str, activities: list[Activity]) -> None:
    """Ten seconds of two processors for each activity of a run."""
    start = platform.clock.now_us() - 3_600 * SECOND
    name = f"train/{run_id}/0"
    resource = Resource(name, "train_worker", "generic-vcpu", 2, 1, "vcpu-hour", start, "DEU")
    facts: list[Fact] = [resource, RunAttempt(run_id, 1, "digits", "ok", start, start + 1)]
    for n, activity in enumerate(activities):
        left = start + 10 * n * SECOND
        right = left + 10 * SECOND
        facts += [
            SupplyWindow(run_id, "b", 2 * n, name, left, right, 20 * SECOND, cpu_us=10 * SECOND),
            UsageWindow(run_id, "b", 2 * n + 1, name, left, right, "digits", None, "training",
                        activity, run_id, 1, items=10, busy_ns=9 * 10**9, flop=10**9),
        ]  # fmt: skip
    platform.facts.ingest(facts, start)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """digits/1 is trained, 2 and 3 are made of it; nothing was served."""
    home = tmp_path_factory.mktemp("cards") / "home"
    platform = Platform(Settings(home=home))
    experiment = client_of(platform).create_experiment("digits", (home / "artifacts").as_uri())
    trained = register(platform, experiment, "fp32", "trained", None, workflow_yaml=WORKFLOW)
    made = register(platform, experiment, "int8_static", "quantized", 1, recipe_json=RECIPE)
    register(platform, experiment, "pruned_structured+int8_static", "pruned", 1)
    book(platform, trained, ["train", "train", "evaluate"])
    book(platform, made, ["compress", "evaluate"])
    platform.learn_versions()
    platform.books.post()
    platform.registry.set_alias("digits", "champion", 1)
    platform.engine.dispose()
    return home


@pytest.fixture
def platform(home: Path, copy_of: Callable[..., Platform]) -> Platform:
    """A platform of one's own over a copy of that home; the files of its runs are shared."""
    return copy_of(home)


@pytest.fixture
def command(platform: Platform, typed_at: Callable[..., Command]) -> Command:
    """Types ``steelyard models …``: exit code, standard output, standard error."""
    return typed_at(platform.settings.home, "models")


def test_a_lineage_goes_from_the_run_to_the_variants(command: Command) -> None:
    """Kind, relation and digests of each; the graph as JSON."""
    code, out, _ = command("lineage", "digits")
    lines = out.splitlines()
    assert code == 0 and lines[0] == "digits" and "run " in lines[1]
    assert "digits/1 fp32, trained" in lines[2] and "@champion" in lines[2]
    assert "digits/2 int8_static, quantized" in lines[3] and "recipe " in lines[3]
    assert "evidence " in lines[4] and "pruned" in lines[4]
    _, out, _ = command("lineage", "digits/3", "--json")
    found = json.loads(out)
    assert [v["name"] for v in found["versions"]] == ["digits/1", "digits/3"]
    assert {"from": "digits/1", "to": "digits/3", "relation": "pruned"} in found["edges"]


def test_a_deleted_parent_leaves_orphans_that_say_so(platform: Platform, command: Command) -> None:
    """The ledger's copy still knows the parent; the variant's card names it as deleted."""
    client_of(platform).delete_model_version("digits", "1")
    _, out, _ = command("lineage", "digits")
    assert "deleted from the registry" in out
    assert out.count("orphan: its parent digits/1 is gone") == 2
    _, out, _ = command("card", "digits/2")
    assert "its parent is digits/1, deleted from the registry since" in out


def test_a_version_says_relation_parent_and_digests_in_its_tags(platform: Platform) -> None:
    """In the registry, for whoever reads it without us; the parent under its older name, too."""
    client, version = client_of(platform), platform.registry.version("digits", 2)
    tags = client.get_model_version("digits", "2").tags
    assert (tags["steelyard.relation"], tags["steelyard.parent_version"]) == ("quantized", "1")
    assert tags["steelyard.recipe_sha256"] == version.recipe_sha256 and version.recipe_sha256
    assert len(tags["steelyard.evidence_sha256"]) == 64
    client.delete_model_version_tag("digits", "2", "steelyard.parent_version")
    client.set_model_version_tag("digits", "2", "steelyard.parent", "1")
    assert platform.registry.version("digits", 2).parent == 1


def test_what_never_was_has_no_lineage(command: Command) -> None:
    """A model, a version, an alias."""
    for name, why in (("cats", "no model"), ("digits/9", "1, 2, 3"), ("digits@best", "no alias")):
        code, _, err = command("lineage", name)
        assert code == 1 and why in err


def test_a_card_says_what_registry_ledger_and_tracker_know(command: Command) -> None:
    """Recipe, evidence with interval, gates, cost, pay-back; emissions in grams, as estimated."""
    code, out, _ = command("card", "digits/2", "--json")
    found = json.loads(out)
    head, text = found["metadata"], found["text"]
    assert code == 0
    assert (head["base_model"], head["base_model_relation"]) == ("digits/1", "quantized")
    emitted = head["co2_eq_emissions"]
    _, shown, _ = command("show", "digits/2", "--json")
    account = json.loads(shown)["versions"][0]["account"]
    assert emitted["emissions"] * 10**6 == pytest.approx(account["training"]["carbon_ug"])
    assert "estimated" in emitted["source"] and emitted["geographical_location"] == "DEU"
    assert emitted["hardware_used"] == "2 x generic-vcpu"
    (result,) = head["model-index"][0]["results"]
    assert result["dataset"]["revision"] == "d" * 64
    assert RECIPE in text and "0.9670 [0.9430, 0.9810]" in text
    assert "| quality | pass |" in text and "unknown yet" in text
    assert yaml.safe_load(text.split("---\n")[1]) == head


def test_a_trained_version_s_card_shows_its_workflow(command: Command) -> None:
    """It has no parent, so nothing of one is said."""
    _, out, _ = command("card", "digits/1")
    assert WORKFLOW.strip() in out and "base_model" not in out and "pays back" not in out


def test_a_recipe_that_is_not_the_one_it_was_made_by_is_not_shown(
    platform: Platform, command: Command
) -> None:
    """The digest on the version decides; this version has none."""
    run_id = platform.registry.version("digits", 3).run_id
    client_of(platform).log_text(run_id, RECIPE.replace("static", "dynamic"), "recipe.json")
    _, out, _ = command("card", "digits/3")
    assert "int8_dynamic" not in out and "keeps no recipe, or not the one" in out


def test_a_card_is_written_or_published_with_its_run(
    platform: Platform, command: Command, tmp_path: Path
) -> None:
    """Both are the text on standard output; a place that cannot be written is told."""
    _, text, _ = command("card", "digits/2")
    file = tmp_path / "card.md"
    code, out, _ = command("card", "digits/2", "--out", str(file), "--publish")
    assert code == 0 and out == ""
    run_id = platform.registry.version("digits", 2).run_id
    published = Path(client_of(platform).download_artifacts(run_id, "README.md", str(tmp_path)))
    assert file.read_text().splitlines()[-9:] == text.splitlines()[-9:]
    assert published.read_text() == file.read_text()
    assert command("card", "digits/2", "--out", str(tmp_path))[0] == 1
    assert command("card", "digits")[0] == 2


def test_a_variant_says_in_what_it_pays_back(command: Command) -> None:
    """Money, energy and carbon; while nothing was served all of them are unknown."""
    _, out, _ = command("show", "digits/2")
    for measure in ("cost", "energy", "carbon (operational)"):
        assert f"digits/2 pays back in {measure}: making it took " in out
    assert out.count("unknown yet") >= 3
    _, out, _ = command("show", "digits/1")
    assert "pays back in" not in out
