"""``steelyard compress``. Heavy imports wait until the command runs."""

from typing import Annotated

import typer

from steelyard_workflows.cli.registered import AsJson, show


def compress(
    model: Annotated[
        str, typer.Argument(metavar="MODEL/VERSION", help="The version to make smaller.")
    ],
    variant: Annotated[str, typer.Option(metavar="KIND", help="For example int8_static.")],
    as_json: AsJson = False,
) -> None:
    """Make a smaller variant of a version, measure it beside its parent, register it."""
    from steelyard.bootstrap import check_region
    from steelyard.settings import load_settings
    from steelyard_workflows.environment import prepare

    settings = load_settings()
    check_region(settings)
    prepare(settings)
    from steelyard_workflows.compress import compress as make
    from steelyard_workflows.tracking.totals import accounted

    with accounted(settings):
        version = make(model, variant, settings)
    show(version, as_json)
