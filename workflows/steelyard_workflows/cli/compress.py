"""``steelyard compress``. Heavy imports wait until the command runs."""

from typing import TYPE_CHECKING, Annotated

import typer

from steelyard.cli.output import emit, note
from steelyard_workflows.cli.registered import AsJson, show

if TYPE_CHECKING:
    from steelyard.settings import Settings
    from steelyard_workflows.variants.kind import Value


def compress(
    model: Annotated[
        str, typer.Argument(metavar="MODEL/VERSION", help="The version to make smaller.")
    ],
    variant: Annotated[
        str,
        typer.Option(metavar="KIND", help="int8_static, or several: pruned_structured+int8_static"),
    ],
    chosen: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the kind; may be repeated."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the recipe and what it will take; make nothing."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a smaller variant of a version, measure it beside its parent, register it."""
    from steelyard.bootstrap.errands import check_region
    from steelyard.settings import load_settings
    from steelyard_workflows.environment import prepare

    settings = load_settings()
    check_region(settings)
    prepare(settings)
    from steelyard_workflows.compress import compress as make
    from steelyard_workflows.tracking.totals import accounted
    from steelyard_workflows.variants.steps import typed

    options = typed(variant, chosen or [])
    if dry_run:
        _rehearse(model, variant, options, settings, as_json)
        return
    with accounted(settings):
        version = make(model, variant, settings, options)
    show(version, as_json)


def _rehearse(
    model: str, variant: str, options: "dict[str, Value]", settings: "Settings", as_json: bool
) -> None:
    """The recipe, and what carrying it out will take."""
    import json

    from steelyard_workflows.compression.claim import registered
    from steelyard_workflows.compression.forecast import forecast, lines
    from steelyard_workflows.compression.order import ordered

    order = ordered(model, variant, options, settings)
    found = forecast(order, settings)
    there = registered(order, settings)
    document = {
        "recipe": dict(order.recipe), "recipe_sha256": order.sha256,
        "registered_as": there.name if there else None, "forecast": found.document(),
    }  # fmt: skip
    shown = [json.dumps(order.recipe, indent=2, sort_keys=True), f"# recipe {order.sha256}",
             *(f"# {line}" for line in lines(found))]  # fmt: skip
    emit(document, as_json, lambda: print("\n".join(shown)))
    if there:
        note(f"{there.name} was made by the same recipe: it would be the answer.")
    note("Nothing was made.")
