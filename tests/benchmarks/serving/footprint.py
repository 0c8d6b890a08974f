"""What a served version takes: memory, and the time from ``steelyard deploy`` to its first answer.

    python tests/benchmarks/serving/footprint.py [--models 10] [--versions 5]

Registers every version (the perceptron with other numbers), deploys one of each model, asks them
all, and reads the unique memory (USS) of every process: what would be free without it.
"""

import argparse
import json
import re
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import ours
import psutil
import report
from load import Target, asked, check_wrk, full
from networks import Network, networks

MB = 2**20
LIMIT_MB = 150
ROOM = 8
"""Ray's CPUs beside a replica each: training none, witnesses three, the rest free."""

KINDS = {
    "all replicas": r"ray::ServeReplica:[^ ]*-v\d+",
    "Ray Serve's control": r"ray::ServeController",
    "Ray's head": r"gcs_server|raylet|ray\.|ray::|/ray/",
    "HAProxies": r"haproxy",
    "MLflow's web pages": r"mlflow",
}
"""Kinds of processes by what stands in their command line; the first that fits."""

OTHERS = "of the rest: controller, API, gRPC, supervisor"


@dataclass(frozen=True, slots=True)
class Deployed:
    """One ``steelyard deploy``: seconds to the first answer, and until the command was done."""

    answered_s: float
    done_s: float


def files(network: Network, folder: Path, models: int, versions: int) -> Iterator[str]:
    """``NAME=FILE`` of every version: the network with a last bias of its own."""
    import onnx
    from onnx import numpy_helper

    proto = onnx.load(network.file)
    bias = next(one for one in proto.graph.initializer if list(one.dims) == [10])
    values = numpy_helper.to_array(bias)
    for model in range(models):
        for version in range(versions):
            changed = numpy_helper.from_array(values + model + version / 16, bias.name)
            bias.CopyFrom(changed)
            path = folder / f"{model}-{version}.onnx"
            onnx.save(proto, path)
            yield f"m{model}={path}"


def deploy(home: ours.Home, target: Target, model: str) -> Deployed:
    """Deploy a model's first version, and ask for it until it answers."""
    started = time.monotonic()
    words = ["deploy", f"{model}/1", "--override-gates", ours.NO_GATES]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [ours.STEELYARD, *words], env=home.environment, stdout=said, stderr=said
        )
        answered = _first_answer(target, process, started)
        if process.wait():
            said.seek(0)
            raise RuntimeError(f"deploy of {model}: {said.read().decode()[-2000:]}")
    return Deployed(answered, time.monotonic() - started)


def _first_answer(target: Target, process: subprocess.Popen[bytes], started: float) -> float:
    while time.monotonic() - started < ours.START_S and process.poll() in (None, 0):
        try:
            asked(target)
        except (URLError, OSError):
            time.sleep(0.05)
            continue
        return time.monotonic() - started
    return float("nan")


def memory(folder: Path) -> dict[str, dict[int, float]]:
    """Unique memory in MB of each process of a home, by kind and process id."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for process in processes(folder):
        try:
            # A process that gave itself a title has one word, and spaces in it.
            line = " ".join(process.cmdline())
            unique = process.memory_full_info().uss / MB
        except psutil.Error:
            continue
        kind = next((kind for kind, form in KINDS.items() if re.search(form, line)), OTHERS)
        found[kind][process.pid] = unique
    return found


def processes(folder: Path) -> set[psutil.Process]:
    """All of a home: those that were told of it, and what they started.

    Ray's workers write their titles over their variables, so they are found by their parents.
    """
    found: set[psutil.Process] = set()
    for process in psutil.process_iter(["pid"]):
        try:
            if process.environ().get("STEELYARD_HOME") == str(folder):
                found |= {process, *process.children(recursive=True)}
        except psutil.Error:
            continue
    return found


def witnesses(home: ours.Home, model: str) -> dict[str, tuple[float, str]]:
    """Unique memory in MB, and what was imported, of the replicas to compare with."""
    found = {}
    for name, told in json.loads(home.script("witnesses.py", model).splitlines()[-1]).items():
        unique = psutil.Process(told["pid"]).memory_full_info().uss / MB
        found[name] = (unique, ", ".join(told["imported"]) or "neither torch nor mlflow")
    return found


def show(
    took: Sequence[Deployed], registered_s: float, versions: int,
    found: Mapping[str, Mapping[int, float]], compared: Mapping[str, tuple[float, str]],
) -> None:  # fmt: skip
    """All of it as Markdown."""
    replicas = list(found["all replicas"].values())
    torch = [pid for pid in found["all replicas"]
             if "libtorch" in Path(f"/proc/{pid}/maps").read_text()]  # fmt: skip
    whole = sum(sum(one.values()) for one in found.values())
    decimal = "{:.1f}".format
    kept = "holds" if max(replicas) <= LIMIT_MB else "**fails**"
    lines = [
        ("versions registered / deployed", f"{versions} / {len(took)}"),
        ("registered in", f"{registered_s:.0f} s"),
        ("from `deploy` to the first answer",
         f"{report.spread([one.answered_s for one in took], decimal)} s"),
        ("until the command is done", f"{report.spread([one.done_s for one in took], decimal)} s"),
        (f"unique memory of a replica, at most {LIMIT_MB} MB: {kept}",
         f"{report.spread(replicas, decimal)} MB"),
        ("replicas with libtorch in their memory", f"{len(torch)} of {len(replicas)}"),
        *((f"unique memory, {_CALLED[name]}", f"{unique:.1f} MB; imported: {imported}")
          for name, (unique, imported) in compared.items()),
        *((f"unique memory, {kind}", f"{sum(one.values()):,.0f} MB in {len(one)}")
          for kind, one in found.items()),
        ("unique memory, everything", f"{whole:,.0f} MB"),
    ]  # fmt: skip
    print(report.rows(("what", "found"), lines))


_CALLED = {
    "empty": "a replica of Ray Serve that does nothing",
    "modules": "Steelyard's replica that tells what it imported",
    "heavy": "a replica with torch, MLflow and the same network",
}


def main() -> None:
    """Register, deploy, ask, read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--versions", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "steelyard-bench")
    arguments = parser.parse_args()
    check_wrk()
    versions = arguments.models * arguments.versions
    print(f"About {1 + versions * 1.5 / 60 + arguments.models / 4:.0f} minutes.", flush=True)
    network = networks(arguments.cache)[0]
    with (
        ours.home(ray_cpus=arguments.models + ROOM) as home,
        tempfile.TemporaryDirectory() as folder,
    ):
        words = list(files(network, Path(folder), arguments.models, arguments.versions))
        started = time.monotonic()
        home.script("register_models.py", *words)
        registered_s = time.monotonic() - started
        home.steelyard("up")
        home.make_key()
        models = [f"m{number}" for number in range(arguments.models)]
        targets = {model: home.target(network, model) for model in models}
        took = [deploy(home, target, model) for model, target in targets.items()]
        for target in targets.values():
            full(target, 4, 1)
        found = memory(home.settings.home)
        show(took, registered_s, versions, found, witnesses(home, models[0]))


if __name__ == "__main__":
    main()
