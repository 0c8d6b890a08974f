import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from steelyard.cli.app import run
from steelyard_workflows.recipes import NAMES
from steelyard_workflows.schema import schema, text

jsonschema: Any = importlib.import_module("jsonschema")  # it comes with Ray, without types
ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT / "docs" / "reference" / "workflow.schema.json"


def faults(file: str) -> list[str]:
    """What an editor underlines in a workflow file."""
    validator = jsonschema.Draft202012Validator(schema())
    return [error.message for error in validator.iter_errors(yaml.safe_load(file))]


def test_the_published_schema_is_what_the_code_says() -> None:
    """After a change, ``steelyard train --schema`` makes the file anew."""
    assert PUBLISHED.read_text(encoding="utf-8") == text()


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON document on standard output, without a source."""
    assert run(["train", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


def test_it_is_a_schema() -> None:
    """Of the dialect that it names."""
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize(
    "example", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.stem
)
def test_the_examples_are_valid(example: Path) -> None:
    """Editors do not complain about what works."""
    assert faults(example.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", [*NAMES, "my_package.module:recipe"])
def test_a_recipe_is_built_in_or_ones_own(name: str) -> None:
    """A recipe alone is a complete file: it has the rest."""
    assert faults(f"recipe: {name}\n") == []


@pytest.mark.parametrize(
    "file",
    ["model: digits\n", "recipe: no_such\n", "recipe: digits_cnn\ntrain: {epcohs: 3}\n",
     "recipe: digits_cnn\ntrain: {epochs: 0}\n", "recipe: digits_cnn\nfoo: 1\n",
     "recipe: digits_cnn\nscaling: {strategy: magic}\n"],
)  # fmt: skip
def test_mistakes_show_while_one_types(file: str) -> None:
    """A missing recipe, unknown keys and values, and numbers out of range."""
    assert len(faults(file)) >= 1


def test_empty_values_of_optional_keys_are_allowed() -> None:
    """As the manual's annotated example has them."""
    manual = (ROOT / "docs" / "reference" / "workflow.md").read_text(encoding="utf-8")
    found: Any = manual.split("```yaml\n")[1].split("```")[0]
    assert faults(found) == []
