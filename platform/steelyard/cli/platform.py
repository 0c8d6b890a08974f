"""``steelyard up | down | status``: the embedded platform as a whole."""

import time
from typing import Annotated

import typer

from steelyard.cli.output import emit, note, stdout, table
from steelyard.domain.errors import SteelyardError, Unavailable
from steelyard.settings import Settings, load_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
START_TIMEOUT_S = 180.0


def add_commands(app: typer.Typer) -> None:
    """Add the three commands to the application."""
    app.command("up")(up)
    app.command("down")(down)
    app.command("status")(status)


def up(as_json: AsJson = False) -> None:
    """Start the platform in the background; nothing happens when it is up already."""
    from steelyard.bootstrap import Platform
    from steelyard.bootstrap.processes import check_ports, process_specs, supervisor

    settings = load_settings()
    owner = supervisor(settings)
    if owner.status() is None:
        strays = owner.end_strays()
        if strays:
            note(f"Ended {strays} processes that an earlier platform left behind.")
        specs = process_specs(settings)
        check_ports(specs)
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        note("Opening the ledger and the registry …")
        platform = Platform(settings)
        platform.check_region()
        _ = platform.engine
        platform.registry.models()
        owner.spawn()
    else:
        note("The platform is up already.")
    try:
        wait_until_up(settings)
    except (KeyboardInterrupt, SteelyardError):
        owner.stop()
        raise
    emit(_addresses(settings), as_json, lambda: _show_addresses(settings))


def wait_until_up(settings: Settings) -> None:
    """Wait until every process is healthy, telling which became so.

    Raises:
        Unavailable: one keeps failing, with the end of its log, or the time is over.
    """
    from steelyard.bootstrap.processes import supervisor

    owner = supervisor(settings)
    deadline = time.monotonic() + START_TIMEOUT_S
    told: set[str] = set()
    while time.monotonic() < deadline:
        processes = owner.status() or []
        for process in processes:
            if process.state == "healthy" and process.name not in told:
                told.add(process.name)
                note(f"  {process.name} is healthy")
            if process.restarts >= 3 and process.name not in told:
                raise Unavailable(
                    f"{process.name} does not start:\n{owner.log_tail(process.name)}",
                    f"The whole log: {settings.log_dir / process.name}.log",
                )
        if processes and all(p.state == "healthy" for p in processes):
            return
        time.sleep(0.1)
    raise Unavailable("The platform was not up in time.", f"See the logs in {settings.log_dir}.")


def down(as_json: AsJson = False) -> None:
    """Stop everything that ``up`` started; what was deployed comes back with the next ``up``."""
    from steelyard.bootstrap.processes import supervisor

    settings = load_settings()
    stopped = supervisor(settings).stop()
    message = "The platform is down." if stopped else "The platform was not up."
    emit({"stopped": stopped}, as_json, lambda: stdout.print(message))


def status(as_json: AsJson = False) -> None:
    """Show every process, application and open rollout."""
    from steelyard.bootstrap import Platform
    from steelyard.bootstrap.power import energy_source
    from steelyard.bootstrap.processes import supervisor

    settings = load_settings()
    processes = supervisor(settings).status()
    applications = Platform(settings).rollout_store.applications.published() if processes else []
    rows = [
        {"name": p.name, "state": p.state, "pid": p.pid, "restarts": p.restarts}
        for p in processes or []
    ]
    energy = energy_source(settings)
    document = {
        "up": processes is not None, "processes": rows, "applications": applications,
        "energy": energy,
    }  # fmt: skip

    def show() -> None:
        if processes is None:
            stdout.print("The platform is not up. Start it: steelyard up")
            return
        columns = ("process", "state", "Pid", "Restarts")
        stdout.print(table("Processes", columns, (row.values() for row in rows)))
        columns = ("model", "Version", "phase", "reason")
        cells = ([a["model"], a["version"], a["phase"], a["reason"]] for a in applications)
        stdout.print(table("Applications", columns, cells))
        _show_addresses(settings)
        stdout.print(f"{'energy':<10} {energy}", markup=False)

    emit(document, as_json, show)


def _addresses(settings: Settings) -> dict[str, str]:
    mlflow = settings.mlflow_uri or f"http://127.0.0.1:{settings.mlflow_port}"
    return {
        "dashboard": settings.api_url,
        "inference": f"{settings.edge_url}/v2",
        "registry": mlflow,
        "home": str(settings.home),
    }


def _show_addresses(settings: Settings) -> None:
    for name, address in _addresses(settings).items():
        stdout.print(f"{name:<10} {address}", markup=False)
