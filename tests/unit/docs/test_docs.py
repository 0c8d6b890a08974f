"""The documents say what the code does: settings, commands, links, the example request."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from steelyard.cli.app import build
from steelyard.settings import Settings
from steelyard_workflows.recipes.digits_cnn import digits_cnn

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
EXAMPLE = ROOT / "examples" / "digit.json"
ROW = 264
"""Where the example stands in scikit-learn's digits: the first row of the test split."""


def name_of(path: Path) -> str:
    """A document's path for the test report."""
    return str(path.relative_to(ROOT))


def commands(command: Any = None, words: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every command of the application by its words, groups left out."""
    command = command or typer.main.get_command(build())
    below = getattr(command, "commands", None)
    if below is None:
        return {words: command}
    found: dict[tuple[str, ...], Any] = {}
    for name, one in below.items():
        found |= commands(one, (*words, name))
    return found


COMMANDS = commands()


def options(command: Any) -> set[str]:
    """The options of a command as people type them."""
    shown = [p for p in command.params if p.param_type_name == "option"]
    return {text for p in shown for text in (*p.opts, *p.secondary_opts)}


def shell_lines(text: str) -> Iterator[str]:
    """The command lines in the shell blocks of a document; continued lines are joined."""
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        yield from block.replace("\\\n", " ").splitlines()


def inline(text: str) -> Iterator[str]:
    """The commands named inside a sentence or a heading."""
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    yield from re.findall(r"`(steelyard [^`]+)`", prose)


def resolve(line: str) -> tuple[Any, list[str]]:
    """The command that a line runs and its arguments; fails when there is no such command."""
    words = shlex.split(line, comments=True)[1:]
    words = words[: next((i for i, w in enumerate(words) if w in (">", "|", "&")), None)]
    for length in (1, 2, 3):
        if tuple(words[:length]) in COMMANDS:
            return COMMANDS[tuple(words[:length])], words[length:]
    pytest.fail(f"there is no such command: {line}")


def test_every_setting_is_described_with_its_variable_and_default() -> None:
    """The settings page has one line a setting, and none for what is no setting."""
    text = (ROOT / "docs/reference/settings.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| `STEELYARD_([A-Z_]+)` \|", text, re.MULTILINE))
    assert {name: name.upper() for name in Settings.model_fields} == rows


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_the_described_default_is_the_default(name: str) -> None:
    """Whoever reads a default on the settings page gets it."""
    text = (ROOT / "docs/reference/settings.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
    shown = row.split(" | ")[2].strip("`")
    default = Settings.model_fields[name].default
    if name == "home":
        assert shown == "~/.steelyard"
    elif str(default) == "":  # a secret's, too
        assert shown == "empty"
    elif isinstance(default, str):
        assert shown == default
    elif isinstance(default, bool):
        assert shown == str(default).lower()
    else:
        assert float(shown) == default


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    """The page of commands is complete and names nothing that does not exist."""
    text = (ROOT / "docs/reference/cli.md").read_text()
    headings = re.findall(r"^### `steelyard ([a-z][a-z -]*[a-z])", text, re.MULTILINE)
    assert sorted(tuple(h.split()) for h in headings) == sorted(COMMANDS)


@pytest.mark.parametrize("words", sorted(COMMANDS), ids=" ".join)
def test_every_option_is_described_in_its_commands_section(words: tuple[str, ...]) -> None:
    """A section lists exactly the options that its command takes, --json aside."""
    text = (ROOT / "docs/reference/cli.md").read_text()
    section = text.split(f"### `steelyard {' '.join(words)}", 1)[1].split("\n##", 1)[0]
    table = "\n".join(line for line in section.splitlines() if line.startswith("| `--"))
    described = set(re.findall(r"`(--[a-z-]+)[^`]*`", table))
    assert described == options(COMMANDS[words]) - {"--json"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_command_shown_can_be_typed(document: Path) -> None:
    """Commands in shell blocks parse: they exist, with these options and all they require."""
    for line in shell_lines(document.read_text()):
        if line.strip().startswith("steelyard "):
            command, arguments = resolve(line)
            command.make_context("steelyard", list(arguments))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_make_target_shown_exists(document: Path) -> None:
    """`make` does what the documents say it does."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = re.findall(r"(?:^ *|`)make ([a-z]+)", document.read_text(), re.MULTILINE)
    assert set(shown) <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_command_mentioned_exists(document: Path) -> None:
    """Commands inside sentences exist and take the options they are shown with."""
    for line in inline(document.read_text()):
        if line in ("steelyard COMMAND --help", "steelyard --help"):
            continue
        command, arguments = resolve(line.split(" -- ")[0])  # what follows is somebody else's
        assert {a for a in arguments if a.startswith("--")} <= options(command), line


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.yaml")), ids=name_of)
def test_the_command_in_an_examples_head_can_be_typed(example: Path) -> None:
    """Each example says how to run it."""
    lines = re.findall(r"^#\s+(steelyard .*)$", example.read_text(), re.MULTILINE)
    assert lines
    for line in lines:
        command, arguments = resolve(line)
        command.make_context("steelyard", list(arguments))
        assert (ROOT / arguments[0]) == example


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_inside_the_repository_leads_somewhere(document: Path) -> None:
    """Links to files, folders and headings are not broken."""
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (document.parent / path) if path else document
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            assert anchor in {_anchor(h) for h in headings}, target


def _anchor(heading: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.strip().replace(" ", "-")


def test_the_example_request_is_a_digit_of_the_data_set() -> None:
    """examples/digit.json holds a real digit that training never sees, as the model takes it."""
    tensor = json.loads(EXAMPLE.read_text())["inputs"][0]
    recipe = digits_cnn()
    test = recipe.data(recipe.workflow).test
    assert (tensor["name"], tensor["datatype"]) == ("input", "FP32")
    assert tensor["shape"] == [1, 1, 8, 8]
    assert test.rows[0] == ROW
    assert np.array_equal(np.array(tensor["data"], np.float32), test.inputs[0].ravel())
