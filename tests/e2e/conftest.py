"""A platform of its own, as its operator sees it."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.free_ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
STEELYARD = str(Path(sys.executable).parent / "steelyard")


class Home:
    """One platform, as its operator sees it."""

    ranges = itertools.count(42_000, 500)  # replicas' ports: two homes may be up at once

    def __init__(self, path: Path, hurried: bool = True) -> None:
        """Empty; ``hurried`` meters, posts and turns more often than by default."""
        path.mkdir(parents=True)
        edge, grpc, api, mlflow, ray = free_ports(5)
        self.path = path
        self.edge = f"http://127.0.0.1:{edge}"
        names = {"edge_port": edge, "grpc_port": grpc, "api_port": api,
                 "mlflow_port": mlflow, "ray_port": ray,
                 "serve_ports_from": next(self.ranges)}  # fmt: skip
        numbers = [f"{name} = {port}" for name, port in names.items()]
        times = ["meter_interval_s = 1.0", "posting_interval_s = 1.0", "tick_s = 0.3"]
        lines = ['region = "DEU"', *(times if hurried else []), *numbers]
        (path / "steelyard.toml").write_text("\n".join(lines) + "\n")
        ours = ("STEELYARD_", "RAY_", "MLFLOW_")  # other tests in this process set some
        clean = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        self.environment = {**clean, "STEELYARD_HOME": str(path)}

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Type a command."""
        return subprocess.run(
            [STEELYARD, *arguments], env=self.environment, capture_output=True, text=True,
            check=False, cwd=ROOT,
        )  # fmt: skip

    def ok(self, *arguments: str) -> dict[str, Any]:
        """Type a command that has to work; its JSON document."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def pid(self, name: str) -> int | None:
        """The process of the platform with this name."""
        rows = self.ok("status")["processes"]
        return next((r["pid"] for r in rows if r["name"] == name and r["state"] == "healthy"), None)

    def processes(self) -> list[psutil.Process]:
        """Everything that runs for this home."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("STEELYARD_SUPERVISED") == str(self.path):
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found


NewHome = Callable[[str], AbstractContextManager[Home]]


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory) -> NewHome:
    """Makes a home for one platform, which is taken down in the end and leaves nothing behind."""

    @contextmanager
    def make(name: str) -> Iterator[Home]:
        home = Home(tmp_path_factory.mktemp(name) / "home")
        try:
            yield home
        finally:
            home.run("down")
        assert not home.processes(), "down left processes behind"

    return make
