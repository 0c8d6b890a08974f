"""Ray Tune's side of a sweep: it starts the trials' processes and halves their number (ASHA).

A trial that ASHA gives up is asked to stop, not killed: it ends with a checkpoint and closed
books. The process that drives a trial reserves no CPU, so that workers get them all, and sits on
this machine, where the books are.
"""

import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from steelyard.settings import Settings
from steelyard_workflows.sweeps.conductor import Conductor
from steelyard_workflows.sweeps.plan import Trial
from steelyard_workflows.sweeps.trial import drive
from steelyard_workflows.training.fit import Loop
from steelyard_workflows.workflow import Sweep, Workflow

NUMBER = "number"
LOOK_EVERY_S = 0.5
VARIABLES = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is answered here
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # MLflow and the journal have it all
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # a sweep is not restored from Tune's files
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial first says its run, and last its end
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints even when it is told not to
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # the user's code is where the command was typed
}


class Numbers(Searcher):
    """Gives the trials in their order, until they run out or the sweep ends."""

    def __init__(self, trials: Sequence[Trial], conductor: Conductor) -> None:
        super().__init__()
        self._left = [trial.number for trial in trials]
        self._conductor = conductor

    def suggest(self, trial_id: str) -> Any:
        """The next number."""
        if not self._left or self._conductor.ending is not None:
            return Searcher.FINISHED
        number = self._left.pop(0)
        self._conductor.start(number)
        return {NUMBER: number}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The draws do not depend on what came before."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to restore by."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing was saved."""


class Halving(ASHAScheduler):
    """ASHA whose verdict is a request: the trial ends itself."""

    def __init__(self, sweep: Sweep, workflow: Workflow, longest: int, conductor: Conductor):
        rule = workflow.early_stopping
        super().__init__(
            time_attr="epoch", metric=rule.metric, mode=rule.mode, max_t=longest,
            grace_period=sweep.grace_epochs, reduction_factor=sweep.reduction,
            stop_last_trials=False,
        )  # fmt: skip
        self._why = f"not among the best 1/{sweep.reduction} by {rule.metric}"
        self._conductor = conductor

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Ask a trial to end that is worse than the others were at its epoch."""
        verdict = super().on_trial_result(tune_controller, trial, result)
        if verdict == TrialScheduler.STOP:
            reason = f"stopped by the sweep: {self._why} after epoch {result['epoch']}"
            self._conductor.end(trial.config[NUMBER], reason)
        return str(TrialScheduler.CONTINUE)


class Ear(tune.Callback):
    """Passes on what trials say."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has said something."""
        self._conductor.hear(trial.config[NUMBER], result)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """A trial's process has failed in a way that it could not report."""
        words = str(trial.get_error() or "unknown").strip().splitlines()
        self._conductor.lose(trial.config[NUMBER], f"its process failed: {words[-1]}")


class Eye(tune.Stopper):
    """Called by Ray Tune several times a second: the sweep looks after its trials. Stops none."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor
        self._looked = 0.0

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Trials end by themselves."""
        return False

    def stop_all(self) -> bool:
        """Look; the sweep ends when its last trial has."""
        now = time.monotonic()
        if now - self._looked >= LOOK_EVERY_S:
            self._looked = now
            self._conductor.look()
        return False


def run_trials(
    workflow: Workflow, trials: Sequence[Trial], settings: Settings, sweep_id: str, loop: Loop,
    conductor: Conductor, at_once: int,
) -> None:  # fmt: skip
    """Run the trials on the connected Ray, ``at_once`` at a time; the conductor knows how it went.

    Raises:
        KeyboardInterrupt: a second Ctrl-C: somebody does not want to wait for the trials to end.
    """
    folder = str(Path.cwd())

    def one(config: dict[str, Any]) -> dict[str, Any]:
        return drive(trials[config[NUMBER] - 1], settings, sweep_id, folder, loop)

    here = {"CPU": 0, f"node:{ray.util.get_node_ip_address()}": 0.001}
    with _environment(), tempfile.TemporaryDirectory(prefix="steelyard-") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(one, tune.PlacementGroupFactory([here])),
            tune_config=tune.TuneConfig(
                num_samples=len(trials), max_concurrent_trials=at_once, reuse_actors=True,
                search_alg=Numbers(trials, conductor),
                scheduler=_scheduler(workflow, trials, conductor),
            ),
            run_config=tune.RunConfig(
                name=sweep_id, storage_path=scratch, verbose=0, callbacks=[Ear(conductor)],
                stop=Eye(conductor),
            ),
        )  # fmt: skip
        with _interrupts(conductor):
            tuner.fit()


def _scheduler(
    workflow: Workflow, trials: Sequence[Trial], conductor: Conductor
) -> TrialScheduler:  # fmt: skip
    sweep = workflow.sweep
    if sweep is None or sweep.scheduler == "none":
        return FIFOScheduler()
    longest = max(trial.workflow.train.epochs for trial in trials)
    return Halving(sweep, workflow, longest, conductor)


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Ray Tune is set up by environment variables, and Ray warns where data is printed."""
    before = {name: os.environ.get(name) for name in VARIABLES}
    os.environ.update(VARIABLES)
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        logger.setLevel(level)
        for name, old in before.items():
            if old is None:
                del os.environ[name]
            else:
                os.environ[name] = old


@contextlib.contextmanager
def _interrupts(conductor: Conductor) -> Iterator[None]:
    """The first Ctrl-C cancels the trials and waits for them; the second does not wait."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def answer(number: int, frame: FrameType | None) -> None:
        if conductor.cancelled:
            raise KeyboardInterrupt
        conductor.interrupt()

    before = signal.signal(signal.SIGINT, answer)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
