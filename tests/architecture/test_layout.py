import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {
    "platform": "steelyard",
    "workflows": "steelyard_workflows",
    "serving": "steelyard_serving",
}
HEAVY = ("torch", "ray", "mlflow")


def _child(*arguments: str) -> str:
    """What a fresh interpreter at the root of the repository says; it must succeed."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def _loaded_by(statements: str) -> set[str]:
    """Top-level packages that are loaded after a fresh interpreter ran ``statements``."""
    report = "print('\\nLOADED', *sorted({name.partition('.')[0] for name in sys.modules}))"
    return set(_child("-c", f"import sys\n{statements}\n{report}").splitlines()[-1].split())


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_no_package(room: str) -> None:
    """``platform`` is a folder name here; with an ``__init__.py`` it would hide the stdlib's."""
    assert not (ROOT / room / "__init__.py").exists()


@pytest.mark.parametrize(("room", "package"), ROOMS.items())
def test_a_room_holds_one_package(room: str, package: str) -> None:
    """Each top-level folder is the source of exactly one distribution package."""
    packages = [path.parent.name for path in (ROOT / room).glob("*/__init__.py")]
    assert packages == [package]


@pytest.mark.parametrize(("room", "package"), ROOMS.items())
def test_every_folder_with_modules_is_a_package(room: str, package: str) -> None:
    """Without ``__init__.py`` pytest's importlib mode would install a module named ``platform``."""
    folders = {path.parent for path in (ROOT / room / package).rglob("*.py")}
    bare = sorted(str(f.relative_to(ROOT)) for f in folders if not (f / "__init__.py").exists())
    assert bare == []


def test_platform_stays_the_standard_library_s() -> None:
    """From the root of the repository, ``import platform`` finds Python's module."""
    found = _child("-c", "import platform; print(platform.__file__)").strip()
    assert Path(found).resolve() == Path(platform.__file__ or "").resolve()
    assert not Path(found).is_relative_to(ROOT / "platform")


def test_pytest_starts_from_the_root() -> None:
    """``python -m pytest`` puts the root first on the path and still works."""
    assert re.search(r"pytest \d+", _child("-m", "pytest", "--version"))


def test_a_rollback_does_not_wait_for_mlflow(tmp_path: Path) -> None:
    """Importing it takes two seconds, and a rollback asks the registry nothing."""
    loaded = _loaded_by(
        "from steelyard.bootstrap import Platform\n"
        "from steelyard.domain.errors import Conflict\n"
        "from steelyard.settings import Settings\n"
        f"rollouts = Platform(Settings(home={str(tmp_path)!r})).rollouts\n"
        "try: rollouts.rollback('digits', 'ada', 'it is bad')\n"
        "except Conflict: print('asked')"
    )
    assert {"sqlalchemy", "steelyard"} <= loaded
    assert "mlflow" not in loaded


@pytest.mark.parametrize("heavy", HEAVY)
def test_importing_the_command_line_stays_light(heavy: str) -> None:
    """``steelyard`` answers at once: no engine is loaded before a command needs it."""
    assert heavy not in _loaded_by("import steelyard.cli.app")


def test_help_stays_light_and_says_how_to_use_it() -> None:
    """``steelyard --help`` prints the usage without loading torch, Ray or MLflow."""
    statements = (
        "sys.argv = ['steelyard', '--help']\n"
        "from steelyard.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code"
    )
    assert _loaded_by(statements).isdisjoint(HEAVY)
    assert "Usage" in _child("-c", f"import sys\n{statements}")


def test_the_composition_root_opens_no_database_by_itself() -> None:
    """A replica that only writes facts loads neither SQLAlchemy nor MLflow."""
    root = ROOT / "platform/steelyard/bootstrap"
    modules = [f"steelyard.bootstrap.{path.stem}" for path in root.glob("[!_]*.py")]
    assert "steelyard.bootstrap.counting" in modules
    loaded = _loaded_by(f"import {', '.join(modules)}")
    assert loaded.isdisjoint({"sqlalchemy", "alembic", *HEAVY})
