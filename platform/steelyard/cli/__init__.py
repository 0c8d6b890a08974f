"""The command line. ``main`` is the ``steelyard`` script."""

from steelyard.cli.app import main

__all__ = ["main"]
