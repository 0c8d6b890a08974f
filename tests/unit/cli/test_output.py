"""What commands write, and to whom."""

import os
import subprocess
import sys

WORK = """
from steelyard.cli.output import note
for step in range(3):
    note(f"step {step}")
print("done")
"""


def test_work_goes_on_when_nobody_reads_its_progress_any_more() -> None:
    """A pager that was closed, or a program that has gone: the result still comes, exit code 0."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-c", WORK], stdout=subprocess.PIPE, stderr=writer, check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stdout) == (0, b"done\n")
