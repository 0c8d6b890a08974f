"""Makes docs/reference/rollout-verbs.md: every verb tried on a rollout in every condition.

python tools/rollout_verbs.py
"""

from dataclasses import replace
from pathlib import Path
from typing import get_args

from steelyard.domain.errors import Conflict
from steelyard.domain.rollout import Condition, Rollout
from steelyard.domain.rollout_plan import Plan, Step, default_metrics
from steelyard.domain.rollout_verbs import VERBS, Verb, act

PAGE = Path(__file__).parents[1] / "docs/reference/rollout-verbs.md"
PLAN = Plan((Step(500), Step(2_500), Step(5_000, approval=True), Step(10_000)), default_metrics())
PREPARING = Rollout("r", "m", "canary", 1, 2, PLAN, "r", 0, "ada")
HELD = {"awaiting_approval": 1, "promoting": 3, "probation": 3, "healthy": 3}
NAMES: dict[Verb, str] = {"promote": "promote --skip-step", "promote_full": "promote --full"}
HEAD = """\
# Verbs of a rollout

What a person's verb makes of a rollout in each condition; [cli.md](cli.md) has the commands.
The example has steps of 5, 25, 50 and 100 %, and 50 % needs an approval; it stands at 5 % unless its condition is of a later step.
`tools/rollout_verbs.py` makes this page by trying every verb on it.

- **nothing**: it is so already; repeating a verb is harmless.
- **refused**: nothing changes, the message says what does fit, the command ends with 1.
- `steelyard rollback` is not among them: it aborts a rollout that is open, and otherwise starts one back to the last good version.
- `retry` starts a new rollout after one that is degraded or failed, with the same plan; each user stays on the side it was on.
- While the canary has weight, evidence against it ends a rollout in each condition, whatever a person said before.

"""  # noqa: E501


def page() -> str:
    """The whole page."""
    lines = ["| condition | " + " | ".join(f"`{NAMES.get(verb, verb)}`" for verb in VERBS) + " |",
             "|---" * (len(VERBS) + 1) + "|"]  # fmt: skip
    lines += [
        f"| {_words(condition)} | " + " | ".join(result(verb, condition) for verb in VERBS) + " |"
        for condition in get_args(Condition)
    ]
    return HEAD + "\n".join(lines) + "\n"


def result(verb: Verb, condition: Condition) -> str:
    """What a verb makes of the example in a condition."""
    before = example(condition, stopped=verb == "resume")
    try:
        after = act(verb, before, 20)
    except Conflict:
        return "refused"
    if after == before:
        return "nothing"
    if after.stopped_us is not None:
        return "its clock stops"
    if after.condition == before.condition and before.stopped_us is not None:
        return "its clock runs again"
    if after.first_step:
        return "100 % when ready"
    return f"{_words(after.condition)}, {after.weight_bp / 100:g} %"


def example(condition: Condition, stopped: bool) -> Rollout:
    """A rollout in a condition; with ``stopped`` the clock of its wait does not run."""
    if condition in ("preparing", "failed"):
        return replace(PREPARING, condition=condition)
    step = HELD.get(condition, 0)
    weight = 0 if condition in ("aborting", "degraded") else PLAN.steps[step].weight_bp
    waits = condition in ("paused", "awaiting_approval", "probation")
    halted = stopped and condition in ("awaiting_approval", "probation")
    return replace(
        PREPARING, condition=condition, step=step, weight_bp=weight, confirmed_us=5,
        since_us=10 if waits else None, stopped_us=15 if halted else None,
    )  # fmt: skip


def _words(name: str) -> str:
    return name.replace("_", " ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
