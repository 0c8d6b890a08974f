"""``steelyard deploy | predict | rollback``."""

import getpass
from pathlib import Path
from typing import Annotated, Any

import typer

from steelyard.cli.output import emit, note, stdout
from steelyard.domain.errors import Fault, InvalidInput, NotFound, Refused, Unavailable
from steelyard.domain.model_version import parse_model, parse_ref
from steelyard.settings import Settings, load_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Wait = Annotated[bool, typer.Option(help="Wait until it has happened.")]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds to wait at most.")]
Override = Annotated[
    str | None,
    typer.Option(
        "--override-gates", metavar="REASON",
        help="Let it in although gates are not passed: for operators; kept in the history.",
    ),
]  # fmt: skip
LARGEST_FILE = 64 * 2**20
MOST_SHOWN = 200
"""Characters of an answer that is not the edge's."""


def add_commands(app: typer.Typer) -> None:
    """Add the three commands to the application."""
    app.command("deploy")(deploy)
    app.command("predict")(predict)
    app.command("rollback")(rollback)


def version_of(text: str) -> tuple[str, int]:
    """Read ``MODEL/VERSION``.

    Raises:
        InvalidInput: it names no version.
    """
    ref = parse_ref(text)
    if ref.version is None:
        fault = Fault("model", f"{text!r} names no version")
        raise InvalidInput(str(fault), (fault,), f"Write {ref.model}/1, for example.")
    return ref.model, ref.version


def actor() -> str:
    """Who types this."""
    return f"user:{getpass.getuser()}"


def may_override(settings: Settings, reason: str | None) -> None:
    """Refuse to pass over gates for anybody but an operator; nothing when nobody asks for it."""
    from steelyard.bootstrap.access import check_operator

    if reason is not None:
        check_operator(settings)


def deploy(
    model: Annotated[str, typer.Argument(metavar="MODEL/VERSION")],
    override_gates: Override = None, wait: Wait = True, timeout: Timeout = 180,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Deploy the first version of a model: all traffic as soon as it is ready."""
    from steelyard.bootstrap import Platform
    from steelyard.cli.waiting import require_up, settle

    name, version = version_of(model)
    platform = Platform(load_settings())
    require_up(platform)
    may_override(platform.settings, override_gates)
    rollout = platform.rollouts.deploy(name, version, actor(), override_gates)
    note(f"Deploying {model} …")
    if wait:
        rollout = settle(platform, rollout, timeout)
    url = f"{platform.settings.edge_url}/v2/models/{name}/infer"
    document = {"rollout_id": rollout.rollout_id, "condition": rollout.condition, "url": url}
    emit(document, as_json, lambda: stdout.print(f"{model} is {rollout.condition}: POST {url}"))


def rollback(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    reason: Annotated[str, typer.Option(help="Why; kept in the history.")] = "rolled back by hand",
    wait: Wait = True, timeout: Timeout = 180, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Return to the last good version: abort an open rollout, else undo the last promotion."""
    from steelyard.bootstrap import Platform
    from steelyard.cli.waiting import require_up, settle

    platform = Platform(load_settings())
    require_up(platform)
    rollout = platform.rollouts.rollback(parse_model(model), actor(), reason)
    if wait:
        rollout = settle(platform, rollout, timeout)
    serving = rollout.candidate if rollout.condition == "healthy" else rollout.stable
    document = {"rollout_id": rollout.rollout_id, "condition": rollout.condition,
                "serving": serving}  # fmt: skip
    emit(document, as_json, lambda: stdout.print(f"{model} is back on version {serving}."))


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    data: Annotated[Path, typer.Option(metavar="FILE.json", help="An Open Inference request.")],
    unit: Annotated[str | None, typer.Option(help="Who asks: the same unit sticks to its version.")]
    = None,
    key: Annotated[
        str | None,
        typer.Option(envvar="STEELYARD_API_KEY", show_envvar=False, help="An API key; the variable "
                     "STEELYARD_API_KEY does as well, and no list of processes shows it."),
    ] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Send one request through the edge and show who answered."""
    import httpx2

    from steelyard.bootstrap.access import edge_trust

    settings = load_settings()
    ref = parse_ref(model)
    body = _read(data)
    path = f"/v2/models/{ref.model}" + (f"/versions/{ref.version}" if ref.version else "")
    headers = {"content-type": "application/json"} | ({"x-unit-id": unit} if unit else {})
    headers |= {"authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx2.post(f"{settings.edge_url}{path}/infer", content=body, headers=headers,
                             timeout=30, verify=edge_trust(settings))  # fmt: skip
    except httpx2.TransportError as error:
        raise Unavailable(
            f"{settings.edge_url} does not answer: {error}", "Start it: steelyard up"
        ) from error
    try:
        document: dict[str, Any] = answer.json()
    except ValueError as error:
        raise Unavailable(
            f"{settings.edge_url} answered {answer.status_code} without JSON: "
            f"{answer.text[:MOST_SHOWN].strip()!r}",
            "Try again; if it stays so, see what answers there: steelyard status",
        ) from error
    if answer.status_code == 400:
        raise InvalidInput(f"{data}: {document['error']}")
    if answer.status_code in (401, 403):
        raise Refused(document["error"], "Show a key: --key, or the variable STEELYARD_API_KEY.")
    if answer.status_code == 404:
        raise NotFound(document["error"], "See: steelyard models list, steelyard deploy.")
    if answer.status_code != 200:
        raise Unavailable(f"HTTP {answer.status_code}: {document.get('error', '')}")
    identity = answer.headers["x-prediction-id"]

    def show() -> None:
        for output in document["outputs"]:
            stdout.print(f"{output['name']} {output['shape']}: {output['data']}", markup=False)
        stdout.print(f"model {document['model_name']}, version {document['model_version']}")
        stdout.print(f"prediction {identity}")
        note(f"Next: steelyard audit show {identity}")

    emit({"prediction_id": identity, **document}, as_json, show)


def _read(path: Path) -> bytes:
    if not path.is_file():
        fault = Fault("--data", f"there is no file {path}")
        raise InvalidInput(str(fault), (fault,))
    if path.stat().st_size > LARGEST_FILE:
        fault = Fault("--data", f"{path} is larger than {LARGEST_FILE} bytes")
        raise InvalidInput(str(fault), (fault,))
    return path.read_bytes()
