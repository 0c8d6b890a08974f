"""``steelyard rollout pin``: a header that sends requests to one version for a while."""

import math
from datetime import UTC, datetime
from typing import Annotated

import typer

from steelyard.bootstrap import Platform
from steelyard.bootstrap.access import check_operator, pin_key
from steelyard.cli.output import emit, note, stdout
from steelyard.cli.rollout_insight import AsJson
from steelyard.cli.serving import version_of
from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.pin import LONGEST_S, PIN_HEADER, Pin
from steelyard.domain.rollout import SECOND_US
from steelyard.domain.rollout_plan_file import seconds
from steelyard.settings import load_settings


def add_commands(app: typer.Typer) -> None:
    """Add the command to ``steelyard rollout``."""
    app.command("pin")(pin)


def pin(
    model: Annotated[str, typer.Argument(metavar="MODEL/VERSION")],
    how_long: Annotated[
        str, typer.Option("--for", metavar="TIME", help="10m, 2h: a day at most.")
    ] = "10m",
    as_json: AsJson = False,
) -> None:
    """Print the value of a header that pins requests to a version: for operators.

    Whoever has it may use it until it expires; it cannot be taken back before.
    """
    name, version = version_of(model)
    lasts_s = _seconds(how_long)
    platform = Platform(load_settings())
    check_operator(platform.settings)
    platform.registry.version(name, version)
    until_s = math.ceil(platform.clock.now_us() / SECOND_US + lasts_s)
    text = Pin(name, version, until_s).sealed(pin_key(platform.settings))
    document = {"header": PIN_HEADER, "value": text, "model": name, "version": version,
                "until_us": until_s * SECOND_US}  # fmt: skip
    emit(document, as_json, lambda: stdout.print(text, markup=False, soft_wrap=True))
    until = datetime.fromtimestamp(until_s, UTC).isoformat(timespec="seconds")
    note(f"Send it to {name} as {PIN_HEADER}; it is good until {until}.")


def _seconds(text: str) -> float:
    found = seconds(text)
    if found is None or not 1 <= found <= LONGEST_S:
        fault = Fault("--for", f"is a time from 1s to {LONGEST_S // 3600}h, found {text!r}")
        raise InvalidInput(str(fault), (fault,), "Write 10m or 2h.")
    return found
