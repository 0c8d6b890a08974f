"""Steelyard as its user has it: ``steelyard up`` in a home of its own, deployed, with all on.

All is the default of the platform, plus keys: nobody may ask without one, and the one that is used
has a limit of requests and of rows, so that both are counted.
"""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from load import Target
from networks import Network
from peers import Expected, first_output, open_inference
from processes import free_port, free_range, plain_environment, wait_for

from steelyard.settings import Settings
from steelyard_serving.environment import environment

SERVERS = Path(__file__).parent / "servers"
STEELYARD = str(Path(sys.executable).parent / "steelyard")
OURS = "Steelyard"
START_S = 180.0
PORTS = ("edge_port", "grpc_port", "api_port", "mlflow_port", "ray_port")
SETTLE_S = 5.0
"""After the first answer Ray still starts workers in reserve, and the ledger books the start."""

NO_GATES = "a benchmark of serving: nothing is known of this model"


class Home:
    """A platform of its own: ports that nobody has, a short path for sockets."""

    def __init__(self, folder: Path, ray_cpus: int) -> None:
        values: dict[str, Any] = {
            **{name: free_port() for name in PORTS},
            "serve_ports_from": free_range(500),
            "ray_cpus": ray_cpus,
            "require_keys": True,
        }
        lines = [f"{name} = {str(value).lower()}" for name, value in values.items()]
        (folder / "steelyard.toml").write_text("\n".join(lines) + "\n")
        self.settings = Settings(home=folder, **values)
        self.environment = {**plain_environment(), "STEELYARD_HOME": str(folder)}
        self.key = ""

    def steelyard(self, *words: str) -> str:
        """What a command prints; RuntimeError with its complaint."""
        return self._run([STEELYARD, *words], f"steelyard {' '.join(words)}")

    def script(self, name: str, *words: str) -> str:
        """What a script beside the servers prints, run on this platform."""
        # With the variables and the token that Ray wants to see before it is imported.
        own = {**environment(self.settings), "PYTHONPATH": str(SERVERS.parent)}
        return self._run([sys.executable, str(SERVERS / name), *words], name, own)

    def _run(self, command: Sequence[str], name: str, more: Mapping[str, str] | None = None) -> str:
        variables = {**self.environment, **(more or {})}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{name} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        return done.stdout

    def target(self, network: Network, model: str = "") -> Target:
        """How a model is asked through the edge."""
        return Target(
            OURS, network.name, f"{self.settings.edge_url}/v2/models/{model or network.name}/infer",
            open_inference(network), first_output, self.headers,
        )  # fmt: skip

    @property
    def headers(self) -> dict[str, str]:
        """The key, once it was made."""
        return {"authorization": f"Bearer {self.key}"} if self.key else {}

    def make_key(self) -> None:
        """A key with limits that are counted and never reached."""
        self.key = self.steelyard(
            "keys", "create", "benchmark",
            "--requests-per-minute", "1000000", "--items-per-day", "1000000000",
        ).strip().splitlines()[-1]  # fmt: skip


@contextmanager
def home(ray_cpus: int = 8) -> Iterator[Home]:
    """An empty home; what was started in it is stopped, and all of it removed."""
    folder = Path(tempfile.mkdtemp(prefix="syb-"))
    made = Home(folder, ray_cpus)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield made
    finally:
        made.steelyard("down")
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def up(made: Home, served: Sequence[Network], expected: Expected) -> Iterator[list[Target]]:
    """The platform with the networks deployed.

    The first time they are registered and deployed; after that the platform remembers.
    """
    first = not made.key
    if first:
        made.script("register_models.py", *(f"{one.name}={one.file}" for one in served))
    made.steelyard("up")
    try:
        if first:
            made.make_key()
            for one in served:
                made.steelyard("deploy", f"{one.name}/1", "--override-gates", NO_GATES)
        targets = [made.target(one) for one in served]
        for target in targets:
            wait_for(target, expected[target.network], START_S)
        time.sleep(SETTLE_S)
        yield targets
    finally:
        made.steelyard("down")
