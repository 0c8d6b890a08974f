"""The page about sweeps shows a sweep that can be run, and the example is that one."""

import re
from pathlib import Path

from steelyard_workflows.sweeps.plan import planned
from steelyard_workflows.workflow_file import load, parse

ROOT = Path(__file__).parents[3]


def test_the_sweep_on_the_page_draws_what_the_example_draws() -> None:
    """Six trials, told by the file and by the page alike."""
    page = (ROOT / "docs/how-to/sweep.md").read_text()
    (shown,) = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    example = planned(load(str(ROOT / "examples/sweep.yaml")))
    assert len(example) == 6
    assert [trial.values for trial in planned(parse(shown))] == [t.values for t in example]
