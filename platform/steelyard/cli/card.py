"""``steelyard models card``: what there is to say of a version, as a README."""

from pathlib import Path
from typing import Annotated

import typer

from steelyard.cli.output import emit, note
from steelyard.cli.serving import version_of
from steelyard.domain.errors import Unavailable
from steelyard.domain.model_card import metadata
from steelyard.domain.model_card_text import card_text
from steelyard.settings import load_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def add_commands(app: typer.Typer) -> None:
    """Add it to the commands of ``models``."""
    app.command("card")(card)


def card(
    model: Annotated[str, typer.Argument(metavar="MODEL/VERSION")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.md", help="Write it there instead.")
    ] = None,
    publish: Annotated[
        bool, typer.Option("--publish", help="Keep it among the files of the version's run.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a version's model card: recipe, evidence, gates, cost, pay-back, limits."""
    from steelyard.bootstrap import Platform

    platform = Platform(load_settings())
    found = platform.cards.card(*version_of(model))
    text = card_text(found)
    if out is not None:
        _write(out, text)
    if publish:
        platform.cards.publish(found.version, text)
        note(f"README.md is among the files of run {found.version.run_id}")
    document = {"model": found.version.model, "version": found.version.version,
                "metadata": metadata(found), "text": text}  # fmt: skip
    if out is None or as_json:
        emit(document, as_json, lambda: print(text, end=""))


def _write(out: Path, text: str) -> None:
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Unavailable(
            f"{out} cannot be written: {error.strerror}.", "Choose another place."
        ) from error
    note(f"{out} written")
