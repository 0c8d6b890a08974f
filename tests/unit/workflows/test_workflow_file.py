from pathlib import Path

import pytest

from steelyard.domain.errors import InvalidInput, NotFound
from steelyard_workflows.recipes import RECIPES
from steelyard_workflows.workflow_file import load, parse

EXAMPLES = Path(__file__).parents[3] / "examples"


def faults(text: str) -> list[str]:
    """What is wrong with a workflow, as a person reads it."""
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    return [str(fault) for fault in caught.value.faults]


def test_a_file_overrides_only_what_it_says() -> None:
    """Everything else keeps the recipe's value."""
    found = parse("recipe: digits_cnn\nmodel: mine\ntrain:\n  epochs: 3\n")
    recipe = RECIPES["digits_cnn"]().workflow
    assert (found.model, found.train.epochs) == ("mine", 3)
    assert found.train.batch_size == recipe.train.batch_size
    assert found.early_stopping == recipe.early_stopping


def test_every_fault_is_reported_at_once_with_its_line() -> None:
    """One round is enough to mend a file."""
    text = (
        "model: Digits\n"  # 1: capital letter
        "train:\n"
        "  epochs: '3'\n"  # 3: text instead of a number
        "  epcohs: 4\n"  # 4: misspelt
        "  seed: 1\n"
        "  seed: 2\n"  # 6: twice
        "scaling: 5\n"  # 7: not a mapping
        "data: {label_shift: 10}\n"  # 8: out of range
    )
    found = faults(text)
    starts = ["recipe: is missing", "line 1: model:", "line 3: train.epochs:",
              "line 4: train.epcohs:", "line 6: train.seed:", "line 7: scaling:",
              "line 8: data.label_shift:"]  # fmt: skip
    assert len(found) == len(starts)
    assert all(a.startswith(b) for a, b in zip(found, starts, strict=True)), found
    assert "first on line 5" in found[4]


def test_a_fault_inside_a_list_has_its_own_line() -> None:
    """Of several variants it is said which one is wrong."""
    text = (
        "recipe: digits_cnn\n"
        "variants:\n"
        "  - kind: int8_static\n"
        "  - kind: fp16\n"
        "    gates: {max_size_ratio: -1}\n"  # 5
        "    kind: fp16\n"  # 6: twice
    )
    size, twice = faults(text)
    assert size.startswith("line 5: variants.1.gates.max_size_ratio: ")
    assert twice == "line 6: variants.1.kind: is given twice, first on line 4"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "must be a mapping"),
        ("- a\n- b\n", "line 1: file: must be a mapping"),
        ("model: [unclosed\n", "is not YAML"),
        ("recipe: digits_cnn\n---\nrecipe: digits_cnn\n", "is not YAML"),
        ("recipe: digits_cnn\nx: &a {b: *a}\n", "line 2: file: uses an alias"),
        ("recipe: !!python/object/apply:os.system [ls]\n", "line 1: file: is not plain YAML"),
        ("recipe: nothing\n", "line 1: recipe: 'nothing' is unknown; one of: "),
        ("recipe: [digits_cnn]\n", "line 1: recipe: ['digits_cnn'] is unknown"),
        ("recipe: digits_cnn\ntrain: {epochs: true}\n", "line 2: train.epochs"),
        ("recipe: digits_cnn\ntrain: {batch_size: 1}\n", "smaller than scaling.workers 2"),
        ("recipe: digits_cnn\nearly_stopping: {mode: max}\n", "line 2: early_stopping: mode of"),
        ("recipe: digits_cnn\n7: 8\n", "7"),
    ],
)
def test_what_is_not_a_workflow_is_refused(text: str, expected: str) -> None:
    """Each malformed text names what is wrong."""
    found = faults(text)
    assert any(expected in fault for fault in found), found


def test_a_recipe_is_named_without_a_file() -> None:
    """``steelyard train digits_cnn``."""
    assert load("digits_cnn") == RECIPES["digits_cnn"]().workflow


@pytest.mark.parametrize("source", ["no-such-recipe", "missing.yaml"])
def test_a_source_that_does_not_exist_is_named(source: str) -> None:
    """A typing mistake is answered with what was typed."""
    with pytest.raises(NotFound, match=source):
        load(source)


@pytest.mark.parametrize(("name", "shift"), [("digits", 0), ("digits-mislabelled", 1)])
def test_the_examples_are_usable(name: str, shift: int) -> None:
    """Both train the same model; one has the labelling fault."""
    found = load(str(EXAMPLES / f"{name}.yaml"))
    assert (found.model, found.data.label_shift, found.scaling.workers) == ("digits", shift, 2)


def test_a_workflow_survives_its_json() -> None:
    """The run's tag gives back the same workflow, for the variants that come later."""
    found = parse("recipe: digits_cnn\nteam: vision\n")
    assert type(found).model_validate_json(found.model_dump_json()) == found
    assert found.parameters()["train.epochs"] == "12"
    assert found.parameters()["team"] == "vision"


def test_the_reference_shows_every_key_with_its_default() -> None:
    """The annotated example in the manual is the recipe, key by key."""
    manual = (EXAMPLES.parent / "docs" / "reference" / "workflow.md").read_text(encoding="utf-8")
    example = manual.split("```yaml\n")[1].split("```")[0]
    shown = parse(example)
    assert shown == RECIPES["digits_cnn"]().workflow.model_copy(update={"team": "vision"})
    assert all(f"{key.rpartition('.')[2]}:" in example for key in shown.parameters())


def test_the_reference_shows_all_that_sweeps_and_afterwards_take() -> None:
    """The second example has every key; what it shows of a key with a default is the default."""
    manual = (EXAMPLES.parent / "docs" / "reference" / "workflow.md").read_text(encoding="utf-8")
    example = manual.split("```yaml\n")[2].split("```")[0]
    shown = parse(example)
    assert shown.sweep is not None and shown.rollout is not None
    (evaluation,), (variant,) = shown.evaluations, shown.variants
    for section in (shown.sweep, evaluation, variant, variant.gates, shown.rollout):
        for key, field in type(section).model_fields.items():
            assert f"{key}:" in example
            if key != "gates" and not field.is_required() and field.default is not None:
                assert getattr(section, key) == field.default, key
    drawn = {how for one in shown.sweep.search.values() for how in one.model_fields_set}
    assert drawn == set(type(next(iter(shown.sweep.search.values()))).model_fields)
