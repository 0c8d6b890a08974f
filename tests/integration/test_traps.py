"""Files that run code when they are loaded: real ones, armed, at every door.

Each would leave a mark. That it does is shown first, by loading it in a process of its own as its
library would; then it is brought to every place where a file comes in, under its own name and
under those that are taken, and must be refused without a mark.
"""

import gzip
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from tests.registry_client import client_of

from steelyard.bootstrap import Platform
from steelyard.bootstrap.runtimes import runtime_session
from steelyard.domain.errors import InvalidInput, NotFound, Refused, SteelyardError
from steelyard.domain.model_files import KINDS
from steelyard.domain.model_version import Candidate, ModelVersion, Signature
from steelyard_workflows import saved_files
from steelyard_workflows.booking.metering import charge_for
from steelyard_workflows.compression import weights
from steelyard_workflows.export import Artifact
from steelyard_workflows.loading import loaded
from steelyard_workflows.recipes.fashion import clothes
from steelyard_workflows.register import Entry, register
from steelyard_workflows.training import place
from steelyard_workflows.user_code import leaving
from steelyard_workflows.workflow_file import parse

pytestmark = pytest.mark.integration


class Planted:
    """To load it is to leave a mark."""

    def __init__(self, mark: Path) -> None:
        self._mark = str(mark)

    def __reduce__(self) -> tuple[Any, ...]:
        """What a pickle runs when it is loaded."""
        return exec, (f"open({self._mark!r}, 'w').close()",)


def state(folder: Path, mark: Path) -> Path:
    """A state of torch."""
    torch.save({"network": Planted(mark)}, folder / "state.pt")
    return folder / "state.pt"


def plain_pickle(folder: Path, mark: Path) -> Path:
    """A pickle without any archive around it, as torch wrote them once and scikit-learn does."""
    (folder / "model.pkl").write_bytes(pickle.dumps(Planted(mark)))
    return folder / "model.pkl"


def _exported(folder: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """An exported program, its archive's members changed."""
    plain, path = io.BytesIO(), folder / "model.pt2"
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(2, 2),))
    torch.export.save(program, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            target.writestr(name, change(name, source.read(name)))
    return path


def _pickled(mark: Path) -> bytes:
    into = io.BytesIO()
    torch.save(Planted(mark), into)
    return into.getvalue()


def sample_inputs(folder: Path, mark: Path) -> Path:
    """An exported program with a planted example of its inputs."""
    return _exported(
        folder, lambda name, found: _pickled(mark) if "sample_inputs" in name else found
    )


def pickled_weight(folder: Path, mark: Path) -> Path:
    """An exported program one of whose weights says of itself that it is a pickle."""

    def change(name: str, found: bytes) -> bytes:
        if name.endswith("weights_config.json"):
            return found.replace(b'"use_pickle": false', b'"use_pickle": true', 1)
        return _pickled(mark) if name.endswith("weight_0") else found

    return _exported(folder, change)


def array(folder: Path, mark: Path) -> Path:
    """A numpy array of objects."""
    np.save(folder / "rows.npy", np.array([Planted(mark)], object), allow_pickle=True)
    return folder / "rows.npy"


def arrays(folder: Path, mark: Path) -> Path:
    """Several arrays, one of objects: the test rows of a plain loop."""
    np.savez(folder / "test.npz", inputs=np.zeros((2, 2)),
             labels=np.array([Planted(mark), 0], object))  # fmt: skip
    return folder / "test.npz"


@dataclass(frozen=True)
class Trap:
    """A file, its name, and the program that walks into it."""

    make: Callable[[Path, Path], Path]
    name: str
    program: str


STATE = Trap(state, "state.pt", "import torch, sys; torch.load(sys.argv[1], weights_only=False)")
ARRAYS = Trap(
    arrays, "test.npz", "import numpy, sys; numpy.load(sys.argv[1], allow_pickle=True)['labels']"
)
TRAPS = [
    STATE,
    Trap(plain_pickle, "model.pkl", "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"),
    Trap(sample_inputs, "model.pt2", "import torch, sys; torch.export.load(sys.argv[1])"),
    Trap(pickled_weight, "model.pt2", "import torch, sys; torch.export.load(sys.argv[1])"),
    Trap(array, "rows.npy", "import numpy, sys; numpy.load(sys.argv[1], allow_pickle=True)"),
    ARRAYS,
]


Armed = Callable[[Trap], bytes]


def walk_into(program: str, path: Path) -> str:
    """What a process says that opens a file as its library would."""
    careless = {**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true"}
    done = subprocess.run([sys.executable, "-c", program, str(path)], env=careless, check=False,
                          capture_output=True, text=True, timeout=120)  # fmt: skip
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def mark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a trap leaves behind."""
    return tmp_path_factory.mktemp("marked") / "mark"


@pytest.fixture(scope="module")
def armed(mark: Path, tmp_path_factory: pytest.TempPathFactory) -> Armed:
    """A trap's file, after it was seen to work."""
    seen: dict[str, bytes] = {}

    def make(trap: Trap) -> bytes:
        name = trap.make.__name__
        if name not in seen:
            path = trap.make(tmp_path_factory.mktemp(name), mark)
            said = walk_into(trap.program, path)
            assert mark.exists(), said
            mark.unlink()
            seen[name] = path.read_bytes()
        return seen[name]

    return make


@pytest.fixture
def platform(untouched_home: Path, copy_of: Callable[..., Platform]) -> Platform:
    """A platform with an empty registry."""
    return copy_of(untouched_home)


def smuggled(platform: Platform, files: Path, said: str, **tags: str) -> ModelVersion:
    """A folder in the registry that was never registered by us, with tags that say it was.

    ``said`` is the file that the tags name.
    """
    client = client_of(platform)
    known = client.get_experiment_by_name("smuggled")
    root = platform.settings.artifact_root.as_uri()
    experiment = known.experiment_id if known else client.create_experiment("smuggled", root)
    info = client.create_run(experiment).info
    folder = Path(urlparse(info.artifact_uri).path) / "model"
    folder.parent.mkdir(parents=True)
    os.rename(files, folder)
    if not client.search_registered_models("name='m'"):
        client.create_registered_model("m")
    content = (folder / said).read_bytes() if (folder / said).is_file() else b""
    about = {
        "artifact": said, "sha256": sha256(content).hexdigest(), "size_bytes": str(len(content)),
        "variant": "fp32", "relation": "trained",
        "signature": json.dumps({"inputs": [], "outputs": []}), **tags,
    }  # fmt: skip
    made = client.create_model_version(
        "m", tags.pop("source", f"{info.artifact_uri}/model"), info.run_id,
        tags={f"steelyard.{name}": value for name, value in about.items()},
    )  # fmt: skip
    return platform.registry.version("m", int(made.version))


def refused_everywhere(
    platform: Platform, version: ModelVersion, why: str, cache: Path,
    refusal: type[SteelyardError] = Refused,
) -> None:  # fmt: skip
    """By whoever fetches it, and by deploying it, also for an operator who trusts it."""
    with pytest.raises(refusal, match=why):
        platform.registry.fetch(version, cache)
    with pytest.raises(refusal):
        platform.rollouts.deploy("m", version.version, "ada", "I made it myself")
    assert not cache.exists() and platform.rollout_store.open_rollout("m") is None


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.make.__name__)
def test_a_pickle_enters_no_registry_and_leaves_none(
    platform: Platform, trap: Trap, armed: Armed, tmp_path: Path, mark: Path
) -> None:
    """Under its own name and every name that is taken: registered, smuggled in, deployed."""
    content = armed(trap)
    for name in (trap.name, *(f"model{suffix}" for suffix in KINDS)):
        why = "of no kind that is registered" if name == trap.name else rf"{name}: It"
        folder = tmp_path / f"as-{name}"
        folder.mkdir()
        (folder / name).write_bytes(content)
        digest, nothing = sha256(content).hexdigest(), Signature((), ())
        artifact = Artifact(folder / name, digest, len(content), nothing)
        entry = Entry("m", "run", "fp32", "trained", None, None)
        with pytest.raises(Refused, match=why):
            register(platform.settings, artifact, entry)
        version = smuggled(platform, folder, name)
        refused_everywhere(platform, version, why, tmp_path / "cache")
    candidate = Candidate("own", "run", "file:///tmp", trap.name, digest, 1, "fp32", "trained",
                          nothing)  # fmt: skip
    with pytest.raises(Refused, match="of no kind that is registered"):
        platform.registry.register(candidate)
    assert "own" not in platform.registry.models()
    assert not mark.exists()


MLMODEL = {
    "sklearn": """
flavors:
  python_function: {loader_module: mlflow.sklearn, model_path: model.pkl, python_version: 3.11.7}
  sklearn: {pickled_model: model.pkl, serialization_format: pickle, sklearn_version: 1.9.0}
""",
    "pyfunc": """
flavors:
  python_function: {loader_module: planted, code: code, data: model.onnx, python_version: 3.11.7}
""",
}
FLAVOURS = "import mlflow.pyfunc, sys; mlflow.pyfunc.load_model(sys.argv[1])"


def test_what_nobody_registered_is_not_even_looked_at(platform: Platform, tmp_path: Path) -> None:
    """A version without our tags has no digest."""
    (tmp_path / "model").mkdir()
    version = smuggled(platform, tmp_path / "model", "model.onnx")
    client_of(platform).delete_model_version_tag("m", str(version.version), "steelyard.sha256")
    with pytest.raises(Refused, match="was not registered by Steelyard"):
        platform.rollouts.deploy("m", version.version, "ada", "trust me")


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"artifact": "../../../../../../etc/model.onnx"}, "no plain file name"),
        ({"sha256": "../../../../tmp/evil"}, "cannot be '../../../../tmp/evil'"),
        ({"source": "file:///etc"}, "outside of"),
        ({"source": "http://127.0.0.1:1/model"}, "outside of"),
    ],
)
def test_tags_that_lead_elsewhere_are_not_followed(
    platform: Platform, tmp_path: Path, tags: dict[str, str], why: str
) -> None:
    """Name, digest and place of a file are words of whoever wrote them."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.onnx").write_bytes(sound())
    version = smuggled(platform, tmp_path / "model", "model.onnx", **tags)
    refused_everywhere(platform, version, why, tmp_path / "cache")


def sound() -> bytes:
    """An ONNX file with nothing wrong."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy"]
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    ).SerializeToString()
    return content


def reader(location: str) -> bytes:
    """An ONNX file that answers with what stands in another file."""
    model = onnx.load_from_string(sound())
    model.graph.node[0].CopyFrom(helper.make_node("Identity", ["w"], ["y"]))
    weight = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[1, 2])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    content: bytes = model.SerializeToString()
    return content


READ = """
import numpy, onnxruntime, sys
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(session.run(None, {"x": numpy.zeros((1, 2), numpy.float32)})[0].tolist())
"""


@pytest.mark.parametrize("location", ["weights.bin", "../../../../../../etc/passwd", "/etc/passwd"])
def test_an_onnx_file_that_reads_another_is_refused(
    platform: Platform, tmp_path: Path, location: str
) -> None:
    """By registering, fetching, and by the session of a replica; onnxruntime reads a hard link."""
    folder = tmp_path / "model"
    folder.mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(np.array([41.0, 43.0], np.float32).tobytes())
    os.link(secret, folder / "weights.bin")
    content = reader(location)
    (folder / "model.onnx").write_bytes(content)
    if location == "weights.bin":
        assert "[[41.0, 43.0]]" in walk_into(READ, folder / "model.onnx")
    why = f"Weight 'w' lies outside of the file, in '{location}'"
    artifact = Artifact(folder / "model.onnx", sha256(content).hexdigest(), len(content),
                        Signature((), ()))  # fmt: skip
    with pytest.raises(Refused, match=why):
        register(platform.settings, artifact, Entry("m", "run", "fp32", "trained", None, None))
    with pytest.raises(Refused, match=why):
        runtime_session("onnxruntime", content)
    version = smuggled(platform, folder, "model.onnx")
    refused_everywhere(platform, version, why, tmp_path / "cache")


def test_an_operation_of_another_library_is_refused(platform: Platform, tmp_path: Path) -> None:
    """It would want that library loaded; the message names the operation and its domain."""
    model = onnx.load_from_string(sound())
    model.graph.node[0].domain = "com.example.ops"
    model.opset_import.append(helper.make_opsetid("com.example.ops", 1))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.onnx").write_bytes(model.SerializeToString())
    version = smuggled(platform, tmp_path / "model", "model.onnx")
    why = "Operation Identity is of the domain 'com.example.ops'"
    refused_everywhere(platform, version, why, tmp_path / "cache")


def test_kept_weights_that_run_code_are_refused(
    platform: Platform, armed: Armed, tmp_path: Path, mark: Path
) -> None:
    """What pruning and distilling start from lies unsigned with the run."""
    client = client_of(platform)
    experiment = client.create_experiment("m", platform.settings.artifact_root.as_uri())
    info = client.create_run(experiment).info
    folder = Path(urlparse(info.artifact_uri).path) / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "best.pt").write_bytes(armed(STATE))
    workflow = parse("recipe: digits_cnn\nmodel: m\n")
    made = loaded(workflow)
    version = ModelVersion("m", 1, info.run_id, "s", "model.onnx", "0" * 64, 1, "fp32", "trained",
                           Signature((), ()), 0)  # fmt: skip
    with pytest.raises(Refused, match=r"kept weights of m/1: best\.pt .* holds \S*exec"):
        weights.kept(version, tmp_path / "model.onnx", made.recipe, workflow, made.dataset,
                     platform.settings, tmp_path / "scratch")  # fmt: skip
    assert not mark.exists()


@pytest.mark.parametrize("name", ["state.pt", "random-0.pt"])
def test_a_checkpoint_that_runs_code_is_not_gone_on_from(
    armed: Armed, tmp_path: Path, mark: Path, name: str
) -> None:
    """Neither the state nor a worker's random numbers."""
    (tmp_path / name).write_bytes(armed(STATE))
    with pytest.raises(Refused, match=rf"{name} is no plain state: it holds \S*exec") as refused:
        if name == "state.pt":
            place.load(tmp_path)
        else:
            place.restore_random(tmp_path, 0)
    assert "weights_only" not in str(refused.value)
    assert not mark.exists()


def test_test_rows_that_run_code_are_not_judged_by(
    platform: Platform, armed: Armed, tmp_path: Path, mark: Path
) -> None:
    """What a plain loop leaves is opened by another process."""
    (tmp_path / "test.npz").write_bytes(armed(ARRAYS))
    (tmp_path / "version.json").write_text('{"parameters": 1, "flops": null}')
    charge = charge_for(platform.settings, "run", "m", 1, None)
    with pytest.raises(Refused, match=r"test\.npz does not hold plain arrays"):
        leaving.publish(platform.settings, charge, tmp_path)
    assert not mark.exists()


GROW = "import torch, sys; print(torch.load(sys.argv[1], weights_only=True)['w'].numel())"


def packed(source: Path, target: Path) -> Path:
    """The same archive, deflated."""
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(target, "w", 8) as small:
        for name in whole.namelist():
            small.writestr(name, whole.read(name))
    return target


def test_a_small_file_does_not_become_a_large_one(tmp_path: Path) -> None:
    """Ten kilobytes that torch unpacks to ten megabytes, rows of numpy, pictures of clothes."""
    torch.save({"w": torch.zeros(2_500_000)}, tmp_path / "whole.pt")
    bomb = packed(tmp_path / "whole.pt", tmp_path / "bomb.pt")
    assert bomb.stat().st_size < 20_000 and "2500000" in walk_into(GROW, bomb)
    with pytest.raises(Refused, match=r"bomb\.pt unpacks from [0-9,]+ to 10,"):
        saved_files.state(bomb)
    np.savez_compressed(tmp_path / "rows.npz", inputs=np.zeros(2_500_000))
    with pytest.raises(Refused, match=r"rows\.npz unpacks from"):
        saved_files.arrays(tmp_path / "rows.npz")
    with gzip.open(tmp_path / "train-images-idx3-ubyte.gz", "wb", 1) as file:
        for _ in range(129):
            file.write(bytes(2**20))
    workflow = parse(f"recipe: fashion_mlp\ndata: {{options: {{folder: {tmp_path}}}}}\n")
    with pytest.raises(InvalidInput, match="unpacks to more than 134,217,728 bytes"):
        clothes(workflow)


def test_a_file_that_is_not_there_is_told_as_such(platform: Platform, tmp_path: Path) -> None:
    """Not as one that was changed."""
    (tmp_path / "model").mkdir()
    version = smuggled(platform, tmp_path / "model", "model.onnx")
    with pytest.raises(NotFound, match="is gone"):
        platform.registry.fetch(version, tmp_path / "cache")


Fill = Callable[[Path, Path], None]


@dataclass(frozen=True)
class Evil:
    """One of the artefacts that peers fell for: what lies in the registry, and what springs it.

    ``fill`` is a trap from above, or makes a folder that ``program`` walks into. ``why`` is how it
    is refused; None: what is evil about it lies beside the file that was registered, and stays.
    """

    name: str
    fill: Trap | Fill
    said: str
    why: str | None
    program: str | None = None
    refusal: type[SteelyardError] = Refused


def _python_model(folder: Path, mark: Path) -> None:
    """A model of MLflow's own kind: any class, as cloudpickle has it."""
    cloudpickle = import_module("cloudpickle")
    (folder / "python_model.pkl").write_bytes(cloudpickle.dumps(Planted(mark)))
    (folder / "MLmodel").write_text(
        "flavors:\n  python_function: {loader_module: mlflow.pyfunc.model, python_version: 3.11.7,"
        f" python_model: python_model.pkl, cloudpickle_version: {cloudpickle.__version__}}}\n"
    )


def _beside(flavour: str) -> Callable[[Path, Path], None]:
    """A folder of MLflow's whose loader runs what lies in it."""

    def fill(folder: Path, mark: Path) -> None:
        (folder / "code").mkdir()
        (folder / "MLmodel").write_text(MLMODEL[flavour])
        (folder / "code" / "planted.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
        plain_pickle(folder, mark)
        (folder / "model.onnx").write_bytes(sound())

    return fill


def _linked(folder: Path, mark: Path) -> None:
    """Weights in another file, which is somebody's secret by another name."""
    secret = folder.parent / "secret"
    secret.write_bytes(np.array([41.0, 43.0], np.float32).tobytes())
    os.link(secret, folder / "weights.bin")
    (folder / "model.onnx").write_bytes(reader("weights.bin"))


def _symbolic(folder: Path, mark: Path) -> None:
    """The registered name leads to a file that is not the registry's."""
    (folder.parent / "other.onnx").write_bytes(sound())
    (folder / "model.onnx").symlink_to(folder.parent / "other.onnx")


def _upwards(folder: Path, mark: Path) -> None:
    """A name that leads out of the folder, to a pickle."""
    plain_pickle(folder.parent, mark).rename(folder.parent / "model.onnx")


def _outside(folder: Path, mark: Path) -> None:
    """A sound file, and a pickle that nobody registered beside it."""
    (folder / "model.onnx").write_bytes(sound())
    plain_pickle(folder, mark)


def _swapped(folder: Path, mark: Path) -> None:
    """Registered was a sound file; afterwards it is a pickle (see the test)."""
    (folder / "model.onnx").write_bytes(sound())


def _hooked(folder: Path, mark: Path) -> None:
    """A repository with a hook, which tools that sign a folder leave out of what they sign."""
    (folder / "model.onnx").write_bytes(sound())
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    hook = folder / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {mark}\n")
    hook.chmod(0o700)


LOAD = "import pickle, sys; pickle.load(open(sys.argv[1] + '/{}', 'rb'))"
HOOK = "import subprocess, sys; subprocess.run([sys.argv[1] + '/.git/hooks/post-checkout'])"
NO_KIND = "of no kind that is registered"
TWELVE = [
    Evil("a pickle in sample_inputs", TRAPS[2], "model.pt2", NO_KIND),
    Evil("a weight with use_pickle", TRAPS[3], "model.pt2", NO_KIND),
    Evil("loader_module and code", _beside("pyfunc"), "model.onnx", None, FLAVOURS),
    Evil("a cloudpickled python_model", _python_model, "python_model.pkl", NO_KIND, FLAVOURS),
    Evil("serialization_format pickle", _beside("sklearn"), "model.pkl", NO_KIND, FLAVOURS),
    Evil("a bare pickle of torch", STATE, "state.pt", NO_KIND),
    Evil("hard-linked ONNX data", _linked, "model.onnx", "lies outside of the file"),
    # MLflow says it first, in its own words.
    Evil("a symbolic link", _symbolic, "model.onnx", "outside the artifact directory",
         refusal=NotFound),
    Evil("a path with ..", _upwards, "../model.onnx", "no plain file name",
         LOAD.format("../model.onnx")),
    Evil("a file outside the manifest", _outside, "model.onnx", None, LOAD.format("model.pkl")),
    Evil("swapped after registration", _swapped, "model.onnx", "was changed: its SHA-256"),
    Evil("an unsigned .git", _hooked, "model.onnx", None, HOOK),
]  # fmt: skip


@pytest.mark.parametrize("evil", TWELVE, ids=lambda one: one.name)
def test_none_of_the_twelve_evil_artefacts_runs(
    platform: Platform, evil: Evil, armed: Armed, tmp_path: Path, mark: Path
) -> None:
    """Each is seen to work where it can; then it is refused, or not even touched: no mark."""
    folder = tmp_path / "evil" / "model"
    folder.mkdir(parents=True)
    if isinstance(evil.fill, Trap):
        (folder / evil.said).write_bytes(armed(evil.fill))
    else:
        evil.fill(folder, mark)
    if evil.program is not None:
        said = walk_into(evil.program, folder)
        assert mark.exists(), said
        mark.unlink()
    version = smuggled(platform, folder, evil.said)
    if evil.fill is _swapped:
        plain_pickle(tmp_path, mark).replace(Path(urlparse(version.source).path) / evil.said)
    if evil.why is not None:
        refused_everywhere(platform, version, evil.why, tmp_path / "cache", evil.refusal)
    else:
        path = platform.registry.fetch(version, tmp_path / "cache")
        assert [one.name for one in path.parent.iterdir()] == ["model.onnx"]
        assert path.read_bytes() == sound()
        assert runtime_session("onnxruntime", path.read_bytes()).inputs == ("x",)
    assert not mark.exists()


def test_they_are_twelve() -> None:
    """The list is the one of the platform's promises; nobody takes one out unnoticed."""
    assert len({one.name for one in TWELVE}) == 12
