"""Every kind of variant on the models that it is meant for: size, speed, quality, beside claims.

    python tests/benchmarks/compression.py [--home DIR] [--rounds N] [MODEL ...]

Trains the recipes with `steelyard train`, makes every variant with `steelyard compress`, a process
each, and takes size, accuracy, agreement and divergence from the evidence that was registered.
Speed is measured here: processor time of a call in one process and one thread, all variants and the
torch network in turns, ratios within a round. With ``--home`` what was made there is kept.

Two models need Debian's package ``dataset-fashion-mnist``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import compression_tables as tables
from compression_tables import FP32, TORCH, Figure, Refusal

STEELYARD = str(Path(sys.executable).with_name("steelyard"))
CALLS = {1: 40, 32: 8}
"""Calls of a round by batch size."""
WARM_UP = 3

WIDTHS = ("pruned_structured.round_to=16",)
ALONE = (*WIDTHS, "pruned_structured.control=false")
"""The control is that of the plain kind."""
SHORT = "pruned_structured.epochs=1"
"""An epoch of the residual network takes six minutes of a core here; it is trained for one."""
NETWORKS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "fashion-mlp": (
        ("int8_dynamic",), ("int8_static",), ("ov_int8",), ("int4_weight_only",), ("fp16",),
        ("bf16",), ("layer_drop",), ("onnx_bundle",), ("executorch",), ("executorch_int8",),
        ("pruned_structured", "pruned_structured.ratio=0.5", *WIDTHS),
        ("pruned_structured+int8_static", "pruned_structured.ratio=0.5", *ALONE),
        ("pruned_structured+int8_static", "pruned_structured.ratio=0.7", *ALONE),
        ("pruned_unstructured", "sparsity=0.7", "control=false"),
        ("pruned_unstructured", "sparsity=0.9"),
        ("distilled", "width=0.125"),
        ("distilled+int8_dynamic", "distilled.width=0.125", "distilled.control=false"),
    ),
    "fashion-resnet": (
        ("int8_dynamic",), ("int8_static",), ("ov_int8",), ("int4_weight_only",), ("fp16",),
        ("bf16",), ("layer_drop",), ("executorch",),
        ("pruned_structured", "pruned_structured.ratio=0.5", *ALONE, SHORT),
        ("pruned_structured+int8_static", "pruned_structured.ratio=0.5", *ALONE, SHORT),
        ("distilled", "width=0.375", "control=false", "epochs=1"),
    ),
    "library-of-encoder": (
        ("int8_dynamic",), ("int8_static",), ("ov_int8",), ("int4_weight_only",),
        ("int4_weight_only", "embeddings=true"), ("fp16",), ("bf16",),
        ("pruned_unstructured", "sparsity=0.7"),
        ("layer_drop", "layers=3"), ("layer_drop+int8_dynamic", "layer_drop.layers=3"),
        ("layer_drop+distilled+int8_dynamic", "layer_drop.layers=3", "layer_drop.epochs=0"),
        ("pruned_structured",),
    ),
    "byte-gpt": (
        ("int8_dynamic",), ("int8_static",), ("int4_weight_only",), ("fp16",), ("bf16",),
        ("pruned_unstructured", "sparsity=0.5"), ("layer_drop",), ("distilled",),
        ("pruned_structured",),
    ),
}  # fmt: skip
WORKFLOWS = {
    "fashion-mlp": "recipe: fashion_mlp",
    "fashion-resnet": "recipe: fashion_resnet\ntrain: {epochs: 1}",
    "library-of-encoder": "recipe: sentence_encoder",
    "byte-gpt": "recipe: byte_gpt",
}


@dataclass(frozen=True, slots=True)
class Made:
    """What was asked for, and the version that it became or why it was refused."""

    label: str
    version: int | None
    refusal: str


def train(model: str) -> None:
    """`steelyard train` of the model's recipe, unless the home has it."""
    done = _steelyard("models", "show", f"{model}/1", "--json", refusable=True)
    if done.returncode:
        print(f"train {model}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "train.yaml"
            file.write_text(f"model: {model}\n{WORKFLOWS[model]}\n")
            _steelyard("train", str(file))


def make(model: str) -> list[Made]:
    """Every variant of version 1; one that the home has is shown, not made."""
    found = []
    for kind, *settings in NETWORKS[model]:
        began = time.perf_counter()
        chosen = [word for one in settings for word in ("--set", one)]
        done = _steelyard("compress", f"{model}/1", "--variant", kind, *chosen, "--json",
                          refusable=True)  # fmt: skip
        label = " ".join([kind, *map(_brief, settings[:1])])
        version = json.loads(done.stdout)["version"] if done.returncode == 0 else None
        found.append(Made(label, version, "" if version else _reason(done.stderr)))
        print(f"  {label}: {found[-1].refusal or f'version {version}'}, "
              f"{time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)  # fmt: skip
    return found


def _brief(setting: str) -> str:
    """``ratio=0.5`` of ``pruned_structured.ratio=0.5``."""
    key, _, value = setting.partition("=")
    return f"{key.rpartition('.')[2]}={value}"


def _reason(errors: str) -> str:
    """What the command said when it refused, in one line."""
    said = [line.strip() for line in errors.splitlines() if line.strip()]
    start = next((n for n, line in enumerate(said) if line.lower().startswith("error")), 0)
    return " ".join(said[start:])[:400]


def _steelyard(*words: str, refusable: bool = False) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([STEELYARD, *words], capture_output=True, text=True, check=False)
    if done.returncode and not refusable:
        raise SystemExit(f"steelyard {' '.join(words)} ended with {done.returncode}:\n"
                         f"{done.stderr[-2000:]}")  # fmt: skip
    return done


def figures(model: str, made: Sequence[Made], rounds: int) -> list[Figure]:
    """Size, quality and speed of the parent and its variants, the torch network for comparison."""
    from steelyard.bootstrap import Platform
    from steelyard.settings import load_settings
    from steelyard_workflows.environment import prepare

    settings = load_settings()
    prepare(settings)
    import torch

    from steelyard_workflows.compression.order import ordered
    from steelyard_workflows.evaluation.runtime import opened
    from steelyard_workflows.evaluation.torch_runtime import TorchRuntime
    from steelyard_workflows.variants.steps import kind_named

    torch.set_num_threads(1)
    platform = Platform(settings)
    # A kind that needs the trained network, so that the order brings it.
    source = ordered(f"{model}/1", "pruned_unstructured", {}, settings).source
    versions = {FP32: 1} | {one.label: one.version for one in made if one.version}
    registered = {n: platform.registry.version(model, v) for n, v in versions.items()}
    paths = {n: platform.registry.fetch(v, settings.cache_dir) for n, v in registered.items()}
    runtimes: dict[str, Any] = {TORCH: TorchRuntime(source.parent()), FP32: opened(paths[FP32])}
    for name, version in registered.items():
        if name != FP32:
            kind = kind_named(version.variant.rpartition("+")[2])
            runtimes[name] = kind.runtime(replace(source, path=paths[name]))
    rows = source.dataset.test.inputs
    speeds = measured(runtimes, rows, rounds)
    vectors = tables.vectors(paths, rows[:400]) if model == "library-of-encoder" else {}
    return [Figure(TORCH, None, None, speeds[TORCH])] + [
        Figure(name, version.size_bytes, platform.gates.records(version)[-1].evidence,
               speeds[name], vectors.get(name))
        for name, version in registered.items()
    ]  # fmt: skip


def measured(
    runtimes: Mapping[str, Any], rows: Any, rounds: int
) -> dict[str, dict[int, list[float]]]:  # fmt: skip
    """Processor milliseconds of a call by batch size, a figure a round; candidates in turns.

    A runtime that takes single rows only has no figure at the other size.
    """
    batches = {size: [rows[i * size : (i + 1) * size] for i in range(10)] for size in CALLS}
    taken: dict[str, dict[int, list[float]]] = {n: {s: [] for s in CALLS} for n in runtimes}
    able = {s: {n: one for n, one in runtimes.items() if one.batch in (None, s)} for s in CALLS}
    for size, some in batches.items():
        for one in able[size].values():
            for batch in some[:WARM_UP]:
                one.answer(batch)
    for _ in range(rounds):
        for size, calls in CALLS.items():
            for name, one in able[size].items():
                began = time.process_time()
                for call in range(calls):
                    one.answer(batches[size][call % len(batches[size])])
                taken[name][size].append(1e3 * (time.process_time() - began) / calls)
    return taken


def main() -> None:
    """Print every table as Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("models", nargs="*", default=list(NETWORKS))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["STEELYARD_HOME"] = asked.home or scratch
        os.environ["OMP_NUM_THREADS"] = "1"
        every: dict[str, list[Figure]] = {}
        for model in asked.models:
            train(model)
            made = make(model)
            every[model] = figures(model, made, asked.rounds)
            refused = [Refusal(one.label, one.refusal) for one in made if one.refusal]
            print(tables.variants(model, every[model], refused), flush=True)
        print(tables.floors(every))
        print(tables.claims(every), flush=True)


if __name__ == "__main__":
    main()
