"""The how-to page, as somebody follows it: own code in a folder far from this repository."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from mlflow.tracking import MlflowClient

from steelyard.bootstrap import registry
from steelyard.settings import Settings

pytestmark = [pytest.mark.alone, pytest.mark.integration, pytest.mark.timeout(900)]

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "train-your-own-model.md"
STEELYARD = Path(sys.executable).with_name("steelyard")
LIMIT_S = 400
CLUSTER = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # which keeps the nodes on the loopback interface
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """The folder of the page, its files copied from there; a short path, for Ray's sockets."""
    place = Path(tempfile.mkdtemp(prefix="syo-"))
    package = place / "rings"
    package.mkdir()
    (package / "__init__.py").touch()
    text = PAGE.read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        name = re.match(r"# (\S+)\n", block)
        assert name is not None
        (place / name[1]).write_text(block, encoding="utf-8")
    (place / "rings.yaml").write_text(text.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    yield place
    shutil.rmtree(place, ignore_errors=True)


def environment(home: Path, **more: str) -> dict[str, str]:
    """This process's, without what other tests set for their Ray."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "STEELYARD_"))}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {**kept, "STEELYARD_HOME": str(home), "STEELYARD_RAY_PORT": str(port),
            "STEELYARD_RAY_CPUS": "3", **more}  # fmt: skip


def steelyard(folder: Path, environment: dict[str, str], *words: str) -> str:
    """Run a command in the folder; what it says on both streams."""
    done = subprocess.run(
        [STEELYARD, *words], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_page_trains_a_version_and_learns_from_it(folder: Path) -> None:
    """Workers of a local Ray import the code; the second estimate rests on the first run."""
    home = folder / "home"
    here = environment(home)
    said = steelyard(folder, here, "train", "rings.yaml")
    assert "a short probe on this machine" in said and "Estimate / measured:" in said
    settings = Settings(home=home)
    (version,) = registry(settings).versions("rings")
    assert version.evidence is not None and version.evidence.accuracy > 0.9
    run = MlflowClient(settings.registry_uri).get_run(version.run_id)
    assert json.loads(run.data.tags["steelyard.estimate"])["flop"] > 0
    assert json.loads(run.data.tags["steelyard.estimate_factor"])["device_us"] > 0
    assert "calibrated on 1 past run(s)" in steelyard(
        folder, here, "train", "rings.yaml", "--dry-run"
    )


@pytest.fixture
def nodes(folder: Path) -> Iterator[str]:
    """A Ray cluster of a head without room for work and two nodes, all on this machine.

    Its processes start in another folder, so the code can only come by upload.
    """
    program = (
        "import sys\n"
        "from ray.cluster_utils import Cluster\n"
        "cluster = Cluster(True, head_node_args={'num_cpus': 1, 'include_dashboard': False})\n"
        "for _ in range(2):\n    cluster.add_node(num_cpus=1)\n"
        "print(cluster.address, flush=True)\n"
        "sys.stdin.read()\n"
        "cluster.shutdown()\n"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "STEELYARD_"))}
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**kept, **CLUSTER}, cwd="/",
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    address = next((line for line in process.stdout if re.match(r"[\d.]+:\d+$", line)), "")
    family = psutil.Process(process.pid).children(recursive=True) if address else []
    try:
        assert address, "the cluster did not come up"
        yield address.strip()
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        _, alive = psutil.wait_procs(family, timeout=5)
        for one in alive:
            one.kill()


def test_a_cluster_of_several_nodes_gets_the_code_by_upload(folder: Path, nodes: str) -> None:
    """From a fresh folder; what is not code stays here."""
    (folder / ".git").mkdir()
    (folder / ".git" / "object").write_bytes(b"history")
    here = environment(folder / "home", STEELYARD_RAY_ADDRESS=nodes, **CLUSTER)
    text = (folder / "rings.yaml").read_text(encoding="utf-8")
    (folder / "rings.yaml").write_text(text + "scaling: {workers: 3}\n", encoding="utf-8")
    said = steelyard(folder, here, "train", "rings.yaml")
    assert f"Ray: {nodes}" in said and "Registered rings/1" in said
