"""``python -m steelyard.api``: serve the dashboard and the HTTP API until told to stop."""

import logging
import sys
import threading

import uvicorn

from steelyard.api.app import create_app
from steelyard.api.credentials import api_token
from steelyard.bootstrap import Platform
from steelyard.domain.errors import SteelyardError
from steelyard.settings import load_settings

LOG = logging.getLogger(__name__)


def main() -> int:
    """Serve; 1 when the settings or the ledger are not usable."""
    try:
        platform = Platform(load_settings())
        platform.ledger.head()  # migrates before the first request, and fails here if it must
        api_token(platform.settings)
    except SteelyardError as error:
        print(error, file=sys.stderr)
        return 1
    # After the ledger: Alembic cannot migrate two databases in two threads.
    threading.Thread(target=_open_registry, args=(platform,), daemon=True).start()
    settings = platform.settings
    uvicorn.run(
        create_app(platform), host=settings.host, port=settings.api_port, access_log=False,
        server_header=False, log_level="warning",
    )  # fmt: skip
    return 0


def _open_registry(platform: Platform) -> None:
    """Ahead of the first page: importing MLflow takes seconds."""
    try:
        _ = platform.registry
    except Exception as error:  # whatever it is, pages are shown without evidence and ask again
        LOG.warning("the registry could not be opened: %s", error)


if __name__ == "__main__":
    sys.exit(main())
