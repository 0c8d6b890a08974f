"""What Steelyard adds to a training run: steps/s, start-up, a second worker, memory of FSDP2.

    python tests/benchmarks/training.py [rounds]

Every run is a process of its own with a home of its own. A Steelyard run is `steelyard train`,
with tracking, metering and checkpoints; the plain one is the same network, rows, batches and
optimiser in a bare torch loop. The sides take turns, and the first epoch of each does not count.
Where other work shares the machine, trust the ratio of processor time.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
EPOCHS = {"digits_resnet": 6, "byte_gpt": 2}
STEPS, WARM_UP = 100, 20


@dataclass(frozen=True, slots=True)
class Taken:
    """The median epoch's rows per second, and the seconds until the first was reported."""

    rows_per_s: float
    start_s: float


def plain(recipe: str, rank: int = 0, world: int = 1, store: str = "") -> None:
    """The bare loop; one line of JSON with each epoch's rows per second, of all processes.

    Several processes (torch's own DDP) meet at the file ``store``.
    """
    import torch

    from steelyard_workflows import data
    from steelyard_workflows.recipe import named
    from steelyard_workflows.training.sampling import Plan

    torch.set_num_threads(1)
    if world > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=world
        )
    made = named(recipe)
    step, train = _bare_step(recipe, shared=world > 1), made.workflow.train
    rows = len(data.load(made.data, made.workflow).train)
    plan = Plan(train.seed, rows, train.batch_size, world, 1)
    speeds = []
    for epoch in range(1, EPOCHS[recipe] + 1):
        began = time.perf_counter()
        for batch in range(plan.batches):
            step(plan.step_from(epoch, batch, rank)[0])
        speeds.append(plan.batches * plan.batch / (time.perf_counter() - began))
    if world > 1:
        torch.distributed.destroy_process_group()
    print(json.dumps(speeds))


def in_turns(recipe: str, folder: str) -> None:
    """A Steelyard run whose worker takes a bare step after each of its own, both by thread time."""
    settings, run = _prepared()
    from steelyard_workflows.training.loop import train_worker
    from steelyard_workflows.workflow import Scaling

    def watched(config: dict[str, Any]) -> None:
        bare = _bare_step(recipe)
        from steelyard_workflows.training.stepping import Stepper

        ours, theirs, step = [], [], Stepper.step

        def timed(stepper: Any, batches: Any, rate: float, stop: bool) -> Any:
            began = time.thread_time()
            verdict = step(stepper, batches, rate, stop)
            between = time.thread_time()
            bare(batches[0])
            ours.append(between - began)
            theirs.append(time.thread_time() - between)
            return verdict

        setattr(Stepper, "step", timed)  # noqa: B010
        train_worker(config)
        (Path(folder) / "steps.json").write_text(json.dumps([ours, theirs]))

    from steelyard_workflows.recipe import named

    workflow = named(recipe).workflow
    train = workflow.train.model_copy(update={"epochs": EPOCHS[recipe], "steps": STEPS})
    run(
        workflow.model_copy(update={"train": train, "scaling": Scaling(workers=1)}),
        settings,
        watched,
    )


def _bare_step(recipe: str, *, shared: bool = False) -> Any:
    """A function that takes one step of a second network of the recipe, in a bare torch loop."""
    import torch

    from steelyard_workflows import data
    from steelyard_workflows.recipe import named
    from steelyard_workflows.training import optimizers

    made = named(recipe)
    train = made.workflow.train
    rows = data.load(made.data, made.workflow).train
    network = made.build(made.workflow).train()
    if shared:
        network = torch.nn.parallel.DistributedDataParallel(network)
    optimizer = optimizers.make(train, network.parameters())
    inputs, labels = torch.from_numpy(rows.inputs), torch.from_numpy(rows.labels)

    def step(chosen: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = made.loss(network(inputs[chosen]), labels[chosen])
        loss.backward()
        if train.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), train.clip_norm)
        optimizer.step()

    return step


def memory(strategy: str, folder: str) -> None:
    """Train the wide network with two workers; each leaves its memory in ``folder``.

    Before training, after its steps, and at the end, when a checkpoint was gathered and saved.
    """
    settings, run = _prepared()
    from steelyard_workflows.recipe import named
    from steelyard_workflows.training import parallel
    from steelyard_workflows.training.loop import train_worker
    from steelyard_workflows.workflow import Scaling

    def watched(config: dict[str, Any]) -> None:
        found = [_peak_mb()]
        for kind in (parallel.Replicated, parallel.Sharded):
            _noting(kind, found)
        train_worker(config)
        found.append(_peak_mb())
        (Path(folder) / f"{os.getpid()}.json").write_text(json.dumps(found))

    workflow = named("wide_gpt:wide_gpt", HERE).workflow
    scaling = Scaling(workers=2, strategy="fsdp2" if strategy == "fsdp2" else "ddp")
    run(workflow.model_copy(update={"scaling": scaling}), settings, watched)


def _noting(kind: Any, found: list[float]) -> None:
    """Note the peak so far whenever the network is about to be gathered for a checkpoint."""
    gather = kind.state

    def state(shared: Any, optimizer: Any) -> Any:
        found.append(_peak_mb())
        return gather(shared, optimizer)

    kind.state = state


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _prepared() -> tuple[Any, Any]:
    """Settings, and what runs a workflow, imported after the environment was set."""
    from steelyard.settings import load_settings
    from steelyard_workflows.environment import prepare

    settings = load_settings()
    prepare(settings)
    from steelyard_workflows.train import run

    return settings, run


def run_plain(recipe: str) -> float:
    """Rows per second of the bare loop in a process of its own."""
    speeds: list[float] = json.loads(_child("plain", recipe, home=None))
    return statistics.median(speeds[1:])


def run_plain_two(recipe: str) -> float:
    """Rows per second of two processes of the bare loop with torch's DDP."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        store = str(Path(folder) / "store")
        two = pool.map(lambda rank: _child("plain", recipe, rank, "2", store, home=None), "01")
        speeds: list[float] = json.loads(next(iter(two)))
    return statistics.median(speeds[1:])


def run_steelyard(recipe: str, workers: int) -> Taken:
    """`steelyard train` with a home of its own; its speed stands in its journal."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.yaml"
        file.write_text(
            f"model: bench\nrecipe: {recipe}\n"
            f"train: {{epochs: {EPOCHS[recipe]}, schedule: constant, warmup_steps: 0}}\n"
            f"scaling: {{workers: {workers}}}\n"
            f"early_stopping: {{patience: 1000}}\n"
        )
        home = Path(folder) / "home"
        began = time.time()
        _run([str(Path(sys.executable).with_name("steelyard")), "train", str(file)], home)
        (journal,) = home.glob("**/journal.jsonl")
        entries = [json.loads(line) for line in journal.read_text().splitlines()]
    reports = [e for e in entries if e["event"] == "report"]
    speeds = [e["metrics"]["items_per_s"] for e in reports]
    first = reports[0]["at_us"] / 1e6 - began
    return Taken(statistics.median(speeds[1:]), first)


def step_ratio(recipe: str) -> float:
    """Processor time of a bare step / of Steelyard's, in one worker, medians."""
    with tempfile.TemporaryDirectory() as folder:
        _child("in_turns", recipe, folder, home=Path(folder) / "home")
        ours, theirs = json.loads((Path(folder) / "steps.json").read_text())
    ratio: float = statistics.median(theirs[WARM_UP:]) / statistics.median(ours[WARM_UP:])
    return ratio


def peaks(strategy: str) -> list[float]:
    """A worker's memory for training, MB, mean of two: after the steps, and after a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        _child("memory", strategy, folder, home=Path(folder) / "home")
        found = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
    assert len(found) == 2, f"{len(found)} workers told their memory"
    return [statistics.mean(one[n] - one[0] for one in found) for n in (1, -1)]


def _child(*arguments: str, home: Path | None) -> str:
    return _run([sys.executable, str(Path(__file__).resolve()), *arguments], home)


def _run(command: list[str], home: Path | None) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}
    if home is not None:
        environment["STEELYARD_HOME"] = str(home)
    done = subprocess.run(
        command, cwd=HERE, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def spread(values: list[float], digits: int = 3) -> str:
    """Median, least and most."""
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main(rounds: int) -> None:
    """Print every figure."""
    for recipe in EPOCHS:
        steps, ratios, starts, scale, bare_scale, beside = [], [], [], [], [], []
        for _ in range(rounds):
            steps.append(step_ratio(recipe))
            bare, bare_two = run_plain(recipe), run_plain_two(recipe)
            ours, two = run_steelyard(recipe, 1), run_steelyard(recipe, 2)
            ratios.append(ours.rows_per_s / bare)
            starts.append(ours.start_s)
            scale.append(two.rows_per_s / ours.rows_per_s / 2)
            bare_scale.append(bare_two / bare / 2)
            beside.append(two.rows_per_s / bare_two)
        print(f"{recipe}: steps per second of processor time / plain loop's {spread(steps)}")
        print(f"{recipe}: rows/s on the wall clock / plain loop's {spread(ratios)}")
        print(f"{recipe}: seconds from the command to the first epoch's report {spread(starts, 1)}")
        print(f"{recipe}: scaling efficiency of two workers {spread(scale)}, "
              f"of two bare processes {spread(bare_scale)}")  # fmt: skip
        print(f"{recipe}: rows/s of two workers / two bare processes {spread(beside)}", flush=True)
    for strategy in ("ddp", "fsdp2"):
        steps_mb, end_mb = peaks(strategy)
        print(f"wide_gpt, {strategy}: memory of a worker for training {steps_mb:.0f} MB, "
              f"with a checkpoint {end_mb:.0f} MB", flush=True)  # fmt: skip


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["plain", recipe]:
            plain(recipe)
        case ["plain", recipe, rank, world, store]:
            plain(recipe, int(rank), int(world), store)
        case ["in_turns", recipe, folder]:
            in_turns(recipe, folder)
        case ["memory", strategy, folder]:
            memory(strategy, folder)
        case arguments:
            main(int(arguments[0]) if arguments else 5)
