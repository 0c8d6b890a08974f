"""The how-to page, as somebody follows it: own code in a folder far from this repository."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from steelyard.bootstrap.registry import registry
from steelyard.settings import Settings

from .conftest import environment

pytestmark = [pytest.mark.alone, pytest.mark.integration, pytest.mark.timeout(900)]

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "train-your-own-model.md"
STEELYARD = Path(sys.executable).with_name("steelyard")
LIMIT_S = 400


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


def steelyard(folder: Path, environment: dict[str, str], *words: str) -> str:
    """Run a command in the folder; what it says on both streams."""
    done = subprocess.run(
        [STEELYARD, *words], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_page_trains_a_version_and_learns_from_it(
    folder: Path, new_home: Callable[[Path], Path]
) -> None:
    """Workers of a local Ray import the code; the second estimate rests on the first run."""
    home = new_home(folder / "home")
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
