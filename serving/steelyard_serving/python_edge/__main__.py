"""The process of the edge in Python."""

import logging

import uvloop

from steelyard.settings import load_settings
from steelyard_serving.python_edge.server import serve


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    uvloop.run(serve(load_settings()))


if __name__ == "__main__":
    main()
