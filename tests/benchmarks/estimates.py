"""How far estimates are from what the ledger booked: every recipe, in a first and a second run.

    python tests/benchmarks/estimates.py [recipe ...]

Each recipe has a home of its own, so that its second run is estimated from its first alone, as
for a team that has trained a model once. A factor is estimate / measured.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from steelyard_workflows.recipes import NAMES

STEELYARD = str(Path(sys.executable).with_name("steelyard"))


def factors(recipe: str) -> list[dict[str, float]]:
    """The factors of two runs, by measure, from the tags of the runs."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "STEELYARD_HOME": folder}
        found = []
        for _ in range(2):
            done = subprocess.run(
                [STEELYARD, "train", recipe, "--json"],
                env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise SystemExit(f"{recipe} ended with {done.returncode}:\n{done.stderr[-2000:]}")
            found.append(_tagged(folder, json.loads(done.stdout)["run_id"]))
        return found


def _tagged(home: str, run_id: str) -> dict[str, float]:
    from mlflow.tracking import MlflowClient

    from steelyard.settings import Settings
    from steelyard_workflows.estimates.forecast import FACTOR_TAG

    uri = Settings(home=Path(home)).registry_uri
    run = MlflowClient(uri, uri).get_run(run_id)
    factor: dict[str, float] = json.loads(run.data.tags[FACTOR_TAG])
    return factor


if __name__ == "__main__":
    for name in sys.argv[1:] or NAMES:
        for number, taken in enumerate(factors(name), 1):
            shown = ", ".join(f"{measure} {factor:.2f}" for measure, factor in taken.items())
            print(f"{name}, run {number}: {shown}", flush=True)
