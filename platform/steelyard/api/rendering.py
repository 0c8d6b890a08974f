"""Pages from templates: one Jinja environment whose filters are ``steelyard.domain.figures``."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from steelyard import __version__
from steelyard.domain import figures
from steelyard.domain.decision import said
from steelyard.services import words


def moment(us: int | None) -> str:
    """Microseconds since the epoch as a UTC date and time, to the second.

    >>> moment(0), moment(None)
    ('1970-01-01 00:00:00', '–')
    """
    if us is None:
        return figures.UNKNOWN
    return f"{datetime.fromtimestamp(us / 1e6, UTC):%Y-%m-%d %H:%M:%S}"


def _known(value: object) -> object:
    return figures.UNKNOWN if value is None or value == "" else value


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("steelyard.api"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "money": figures.money, "energy": figures.energy, "carbon": figures.carbon,
        "duration": figures.duration, "flops": figures.flops, "count": figures.count,
        "percent": figures.percent, "size": figures.size, "ms": figures.milliseconds,
        "moment": moment, "known": _known, "said": said, "amount": words.amount,
        "name": words.NAMES.__getitem__,
    }  # fmt: skip
    environment.globals |= {"release": __version__, "words": words}
    return environment


ENVIRONMENT = _environment()


def page(
    template: str, status: int = 200, *, headers: Mapping[str, str] | None = None, **context: Any
) -> HTMLResponse:
    """Render a template as an answer; a name that the template needs and lacks is an error."""
    text = ENVIRONMENT.get_template(template).render(context)
    return HTMLResponse(text, status, headers)
