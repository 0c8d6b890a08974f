"""``steelyard models measure``. Heavy imports wait until the command runs."""

from dataclasses import asdict
from typing import Annotated

import typer

from steelyard.cli.output import emit, note, stdout
from steelyard.cli.serving import version_of
from steelyard_workflows.cli.registered import AsJson


def measure(
    model: Annotated[str, typer.Argument(metavar="MODEL/VERSION")], as_json: AsJson = False
) -> None:
    """Measure a version again on this machine, beside its parent; adds a record of evidence."""
    from steelyard.bootstrap.errands import check_region
    from steelyard.settings import load_settings
    from steelyard_workflows.environment import prepare

    name, version = version_of(model)
    settings = load_settings()
    check_region(settings)
    prepare(settings)
    from steelyard_workflows.measure import measure_again
    from steelyard_workflows.tracking.totals import accounted

    with accounted(settings):
        record = measure_again(name, version, settings)
    emit(asdict(record), as_json, lambda: stdout.print(f"Evidence {record.sha256[:12]} of {model}"))
    note(f"Next: steelyard models promote-check {model}")
