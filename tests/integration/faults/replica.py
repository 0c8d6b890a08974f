"""A replica as a process of its own, without Ray: ``python replica.py FILE``, until SIGTERM.

``FILE`` holds the pickled version and settings; it says ``open`` when its door is.
"""

import pickle
import signal
import sys
import threading
from pathlib import Path

from steelyard_serving.deployment import Replica


def main() -> None:
    """Serve until SIGTERM asks for the end; a kill does not ask."""
    served, settings = pickle.loads(Path(sys.argv[1]).read_bytes())
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    replica = Replica(served, settings)
    print("open", flush=True)
    stop.wait()
    replica.__del__()


if __name__ == "__main__":
    main()
