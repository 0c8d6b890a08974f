"""``steelyard models lineage``: run, version, variants, as a tree."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Annotated, Any

import typer
from rich.text import Text
from rich.tree import Tree

from steelyard.cli.output import emit, stdout
from steelyard.domain.lineage_tree import SHORT, Branch, branches, label
from steelyard.domain.model_version import parse_ref
from steelyard.settings import load_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def add_commands(app: typer.Typer) -> None:
    """Add it to the commands of ``models``."""
    app.command("lineage")(lineage)


def lineage(
    model: Annotated[str, typer.Argument(metavar="MODEL[/VERSION|@ALIAS]")], as_json: AsJson = False
) -> None:
    """Show what descended from what: runs, versions, their variants; deleted ones and orphans."""
    from steelyard.bootstrap import Platform

    ref = parse_ref(model)
    platform = Platform(load_settings())
    number = ref.number(platform.registry.aliases(ref.model)) if ref.alias else ref.version
    found = platform.lineages.of(ref.model, number)
    emit(_document(ref.model, found), as_json, lambda: _show(ref.model, found))


def _show(model: str, trees: Sequence[Branch]) -> None:
    shown = Tree(Text(model))
    for run_id, made in groupby(trees, key=lambda tree: tree.kin.run_id):
        run = shown.add(Text(f"run {run_id[:SHORT] or 'unknown'}"))
        for tree in made:
            _add(run, tree, run_id)
    stdout.print(shown)


def _add(above: Tree, branch: Branch, shown_run: str) -> None:
    run_id = branch.kin.run_id
    by = "" if run_id == shown_run else f"; run {run_id[:SHORT] or 'unknown'}"
    node = above.add(Text(label(branch) + by))
    for child in branch.children:
        _add(node, child, shown_run)


def _document(model: str, trees: Sequence[Branch]) -> dict[str, Any]:
    """Nodes and edges: a run made a version, a version is something of its parent."""
    found = list(branches(trees))
    made = [{"from": f"run:{b.kin.run_id}", "to": b.kin.name, "relation": "made"} for b in found]
    kept = [
        {"from": f"{b.kin.model}/{b.kin.parent}", "to": b.kin.name, "relation": b.kin.relation}
        for b in found if b.kin.parent is not None
    ]  # fmt: skip
    nodes = [{"name": b.kin.name, **asdict(b.kin), "orphan": b.orphan} for b in found]
    return {"model": model, "versions": nodes, "edges": made + kept}
