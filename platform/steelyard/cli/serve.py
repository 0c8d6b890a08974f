"""``steelyard serve``: everything that an operator does to models while they answer."""

import typer

from steelyard.cli import operations, policy

app = typer.Typer(help="Operate models while they answer.", no_args_is_help=True)
app.add_typer(policy.app, name="policy")
operations.add_commands(app)
