from dataclasses import replace

import pytest

from steelyard.domain.auto_rollout import AutoRollout, Registered, Situation, eligible
from steelyard.domain.presets import PRESETS

ON = AutoRollout("m", PRESETS["careful"], "careful", "user:ada", "", set_us=50, since_us=50)
STABLE = Situation(stable=1, open_rollout=False, drifts=False, tried=frozenset({1}))
VARIANT = Registered(2, 1, "quantized", 60)


def test_a_new_compressed_variant_of_the_stable_version_may_begin() -> None:
    """Whatever way of compressing made it; the lower number comes first."""
    pruned, distilled = Registered(4, 1, "pruned", 60), Registered(3, 1, "distilled", 60)
    assert eligible(ON, [pruned, VARIANT, distilled], STABLE) == (2, 3, 4)


@pytest.mark.parametrize(
    "version",
    [
        replace(VARIANT, relation="trained"),
        replace(VARIANT, relation="finetuned"),
        replace(VARIANT, parent=None),
        replace(VARIANT, parent=7),
        replace(VARIANT, created_us=49),
    ],
)
def test_nothing_else_ever_does(version: Registered) -> None:
    """Publishing moves no traffic: not an ordinary version, another's variant, or an old one."""
    assert eligible(ON, [version], STABLE) == ()


@pytest.mark.parametrize(
    "situation",
    [
        replace(STABLE, stable=None),
        replace(STABLE, open_rollout=True),
        replace(STABLE, drifts=True),
        replace(STABLE, tried=frozenset({1, 2})),
    ],
)
def test_nothing_begins_while_something_else_is_going_on(situation: Situation) -> None:
    """Never beside an open rollout or a drift, and never twice for one version."""
    assert eligible(ON, [VARIANT], situation) == ()


def test_it_is_off_unless_somebody_names_a_plan() -> None:
    """Neither without a setting nor without a plan in it."""
    assert eligible(None, [VARIANT], STABLE) == ()
    assert eligible(replace(ON, plan=None), [VARIANT], STABLE) == ()
