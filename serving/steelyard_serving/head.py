"""Run Ray's head, without what an earlier one left behind.

Ray Serve's HAProxy outlives a head that was killed: it keeps the port, the next one cannot start,
and requests go to replicas that are gone. It is recognised by its configuration's private folder.
"""

import os
import signal
import subprocess
import sys
from types import FrameType

import psutil

from steelyard.settings import Settings, load_settings
from steelyard_serving.environment import proxy_dir

END_S = 5.0


def main() -> None:
    """Clear strays, run ``ray start`` with our arguments until it ends, clear again."""
    settings = load_settings()
    end_strays(settings)
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *sys.argv[1:]]
    process = subprocess.Popen(command)

    def pass_on(number: int, _: FrameType | None) -> None:
        process.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, pass_on)
    code = process.wait()
    end_strays(settings)
    sys.exit(code)


def end_strays(settings: Settings) -> list[int]:
    """Kill the HAProxies of this platform's Ray Serve that are still there; their ids."""
    strays = [one for one in psutil.process_iter(["cmdline", "uids"]) if _is_ours(one, settings)]
    for stray in strays:
        stray.kill()
    psutil.wait_procs(strays, timeout=END_S)
    return [stray.pid for stray in strays]


def _is_ours(process: psutil.Process, settings: Settings) -> bool:
    words = process.info["cmdline"] or []
    folder = f"{proxy_dir(settings)}{os.sep}"
    mine = process.info["uids"] is not None and process.info["uids"].real == os.getuid()
    is_haproxy = bool(words) and os.path.basename(words[0]) == "haproxy"
    return mine and is_haproxy and any(word.startswith(folder) for word in words)


if __name__ == "__main__":
    main()
