"""What a job runs on the head of its cluster: ``steelyard train``, on this cluster's Ray.

``python -m steelyard_workflows.jobs.driver SOURCE``. Settings are those of the head, its
environment and the ``steelyard.toml`` in its home, and what the submission set.
"""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import distributions

from steelyard.cli.app import run
from steelyard.cli.output import note


def main() -> int:
    """Train here what somebody submitted; the exit code of ``steelyard train``."""
    os.environ["STEELYARD_RAY_ADDRESS"] = os.environ["RAY_ADDRESS"]  # the supervisor of jobs set it
    os.environ["STEELYARD_JOBS_ADDRESS"] = ""  # the home may name this cluster: once is enough
    for line in versions_told([found.version for found in distributions(name="steelyard")]):
        note(line)
    return run(["train", *sys.argv[1:]])


def versions_told(versions: Sequence[str]) -> list[str]:
    """Which Steelyard runs, of those on the path: the one that was sent comes first.

    >>> versions_told(["0.2.0", "0.1.0"])[1]
    '  not used: Steelyard 0.1.0, which is installed on this node'
    """
    sent, *installed = versions
    others = ", ".join(sorted(set(installed) - {sent}))
    told = [f"  not used: Steelyard {others}, which is installed on this node"] if others else []
    return [f"Steelyard {sent}, as it was submitted", *told]


if __name__ == "__main__":
    sys.exit(main())
