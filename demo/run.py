"""The whole way, once, on real data: from training over a rollout to the ledger.

    python demo/run.py [--keep]

Every step is a ``steelyard`` command that can be typed by hand; this script only types them, sends
traffic meanwhile, and checks what came out. It ends with exit code 1 when anything is not as said.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STEELYARD = str(Path(sys.executable).parent / "steelyard")
PORTS = {"edge_port": 8080, "grpc_port": 8081, "api_port": 8090, "mlflow_port": 8091,
         "ray_port": 8092}  # fmt: skip
ROLLOUT = ["--steps", "5,25,50,100", "--bake", "6", "--min-requests", "20", "--interval", "1",
           "--label-maturity", "1", "--label-tolerance", "2"]  # fmt: skip
RATE = 100


class DemoError(Exception):
    """Something was not as the demo says it is."""


class Demo:
    """Types commands into one home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.started = time.monotonic()
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("STEELYARD_")},
            "STEELYARD_HOME": str(home),
        }

    def prepare(self) -> None:
        """A fresh home; what an earlier demo left running is stopped first."""
        if self.home.exists():
            if not (self.home / "steelyard.toml").exists():
                raise DemoError(f"{self.home} is not a demo's home: remove it, or name another.")
            self.steelyard("down")
            shutil.rmtree(self.home)
        self.home.mkdir(parents=True, mode=0o700)
        ports = {name: _free(port) for name, port in PORTS.items()}
        lines = ['region = "DEU"', "meter_interval_s = 1.0", "posting_interval_s = 2.0",
                 "tick_s = 0.5", *(f"{name} = {port}" for name, port in ports.items())]  # fmt: skip
        (self.home / "steelyard.toml").write_text("\n".join(lines) + "\n")

    def say(self, text: str) -> None:
        """A headline with the time since the start."""
        print(f"\n\033[1m[{time.monotonic() - self.started:5.0f} s] {text}\033[0m", flush=True)

    def steelyard(self, *arguments: str) -> None:
        """Type a command, and show it and what it prints."""
        print(f"$ steelyard {' '.join(arguments)}", flush=True)
        done = subprocess.run([STEELYARD, *arguments], env=self.environment, check=False)
        if done.returncode != 0:
            raise DemoError(f"steelyard {' '.join(arguments)} ended with {done.returncode}")

    def ask(self, *arguments: str) -> dict[str, Any]:
        """Type a command with ``--json`` and read its document."""
        command = [STEELYARD, *arguments, "--json"]
        done = subprocess.run(command, env=self.environment, check=True, stdout=subprocess.PIPE)
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    @contextmanager
    def traffic(self, seconds: int) -> Iterator[None]:
        """Real test images at a bounded rate; not one request may fail."""
        summary = self.home / "traffic.json"
        command = [sys.executable, str(ROOT / "demo" / "traffic.py"), "--rate", str(RATE),
                   "--seconds", str(seconds), "--summary", str(summary)]  # fmt: skip
        print(f"$ python demo/traffic.py --rate {RATE} &", flush=True)
        process = subprocess.Popen(command, env=self.environment)
        try:
            yield
            time.sleep(2)  # a little traffic after the end, to show that it flows
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        seen = json.loads(summary.read_text())
        answers = ", ".join(f"version {v}: {n}" for v, n in sorted(seen["answers"].items()))
        print(f"traffic: {answers}; failed requests: {seen['failures']}", flush=True)
        if seen["failures"]:
            raise DemoError(f"{seen['failures']} requests failed: {seen['failed'][:3]}")


def run(demo: Demo) -> None:
    """Start, then six steps."""
    demo.say("Start the platform: registry, ledger, Ray, serving, control plane")
    demo.prepare()
    demo.steelyard("up")
    demo.say("1. Train on two Ray workers; register version 1")
    demo.steelyard("train", str(ROOT / "examples" / "digits.yaml"))
    demo.say("2. Make a static INT8 variant, measure it beside its parent, register version 2")
    demo.steelyard("compress", "digits/1", "--variant", "int8_static")
    demo.steelyard("models", "show", "digits")
    demo.say("3. Deploy version 1 and ask it")
    demo.steelyard("deploy", "digits/1")
    demo.steelyard("predict", "digits", "--data", str(ROOT / "examples" / "digit.json"))
    with demo.traffic(120):
        demo.say("4. Roll version 2 out: 5, 25, 50, 100 percent")
        demo.steelyard("rollout", "start", "digits/2", *ROLLOUT)
        demo.steelyard("rollout", "status", "digits", "--watch", "--timeout", "110")
    _expect(demo.ask("rollout", "status", "digits"), "healthy", "version 2 was not promoted")
    if demo.ask("models", "show", "digits")["aliases"].get("champion") != 2:
        raise DemoError("the alias champion did not follow")
    demo.say("5. A broken version 3: trained on labels that are off by one; looks fine offline")
    demo.steelyard("train", str(ROOT / "examples" / "digits-mislabelled.yaml"))
    with demo.traffic(120):
        demo.steelyard("rollout", "start", "digits/3", *ROLLOUT)
        demo.steelyard("rollout", "status", "digits", "--watch", "--timeout", "110")
    _expect(demo.ask("rollout", "status", "digits"), "degraded", "version 3 was not rolled back")
    demo.steelyard("rollout", "history", "digits")
    demo.say("6. What it cost, and who answered")
    answer = demo.ask("predict", "digits", "--data", str(ROOT / "examples" / "digit.json"))
    demo.steelyard("ledger", "report", "--model", "digits")
    demo.steelyard("audit", "show", answer["prediction_id"])
    demo.steelyard("ledger", "verify")


def _expect(rollout: dict[str, Any], condition: str, otherwise: str) -> None:
    if rollout["condition"] != condition:
        raise DemoError(f"{otherwise}: {rollout['condition']}, {rollout['reason']}")


def _free(port: int) -> int:
    """The port itself, or the next that nobody uses."""
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                port += 100


def _short(path: str) -> str:
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path


def _next_steps(demo: Demo, kept: bool) -> None:
    home = _short(str(demo.home))
    prefix = f"STEELYARD_HOME={home} {_short(STEELYARD)}"
    demo.say("Done. What to type or open next")
    if not kept:
        print(f"  {prefix} up                # everything comes back, version 2 serving")
    settings = tomllib.loads((demo.home / "steelyard.toml").read_text())
    print(f"  http://127.0.0.1:{settings['api_port']}/models/digits   # the same figures as pages")
    print(f"  {prefix} rollback digits   # to the last good version")
    print(f"  {prefix} down")


def main() -> int:
    """Run the demo; leave nothing running unless ``--keep`` is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the platform running")
    parser.add_argument("--home", type=Path, default=ROOT / ".demo", help="where it works")
    options = parser.parse_args()
    demo = Demo(options.home.resolve())
    keep = False
    try:
        run(demo)
        keep = options.keep
    except (DemoError, subprocess.CalledProcessError) as error:
        print(f"\nThe demo failed: {error}\nLogs: {demo.home / 'logs'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if not keep:
            subprocess.run([STEELYARD, "down"], env=demo.environment, check=False)
    _next_steps(demo, keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
