"""The ``steelyard`` application: its commands, and how errors become exit codes.

Exit codes: 0 done, 1 failed, 2 usage or malformed input, 130 interrupted. An error of ours is a
message and a hint, never a traceback.
"""

import sys
from importlib.metadata import entry_points

import typer
from rich.markup import escape
from typer.exceptions import TyperException

from steelyard.cli import audit, keys, labels, ledger, models, platform, rollout, serve, serving
from steelyard.cli.output import stderr
from steelyard.domain.errors import InvalidInput, SteelyardError

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def build() -> typer.Typer:
    """The whole command tree: ours, and what installed packages add."""
    app = typer.Typer(
        help="Train, compress, serve and roll out models, and account for what they cost.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    platform.add_commands(app)
    serving.add_commands(app)
    app.add_typer(models.app, name="models")
    app.add_typer(rollout.app, name="rollout")
    app.add_typer(audit.app, name="audit")
    app.add_typer(labels.app, name="labels")
    app.add_typer(serve.app, name="serve")
    app.add_typer(keys.app, name="keys")
    app.add_typer(ledger.app, name="ledger")
    for point in sorted(entry_points(group="steelyard.commands"), key=lambda p: p.name):
        point.load()(app)
    return app


def main() -> None:
    """Run one command and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; every error of ours becomes a message and a code."""
    try:
        result = typer.main.get_command(build())(arguments, "steelyard", standalone_mode=False)
        return result if isinstance(result, int) else OK
    except InvalidInput as error:
        _complain(error)
        for fault in error.faults:
            stderr.print(f"  {fault}", markup=False)
        return USAGE
    except SteelyardError as error:
        _complain(error)
        return FAILED
    except TyperException as error:
        _usage(error)
        return USAGE
    except (typer.Abort, KeyboardInterrupt):
        stderr.print("interrupted")
        return INTERRUPTED
    except typer.Exit as error:
        return error.exit_code


def _usage(error: TyperException) -> None:
    show = getattr(error, "show", None)  # a usage error prints the command's usage line, too
    if show is not None:
        show()
    else:
        stderr.print(f"[red]error:[/red] {escape(str(error))}")


def _complain(error: SteelyardError) -> None:
    stderr.print(f"[red]error:[/red] {escape(error.message)}")
    if error.hint:
        stderr.print(f"[dim]{escape(error.hint)}[/dim]")
