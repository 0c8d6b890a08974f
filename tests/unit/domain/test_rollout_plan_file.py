"""A plan that a person writes: every field, every fault with its place, and any document at all."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from steelyard.cli.rollout_plan_file import LARGEST_BYTES, read_plan
from steelyard.domain.analysis import Metric
from steelyard.domain.errors import InvalidInput
from steelyard.domain.presets import PRESETS
from steelyard.domain.rollout_plan import Candidate, Guard, Plan, Step, check_plan
from steelyard.domain.rollout_plan_file import (
    CANDIDATE_KEYS,
    GUARD_KEYS,
    KEYS,
    METRIC_KEYS,
    STEP_KEYS,
    plan_of,
    seconds,
)

EVERYTHING = """
preset: careful
steps:
  - {weight: 0.5, bake: 90, min_requests: 20, shadow: 12.5}
  - {weight: 10, bake: 15m}
  - {weight: 50, bake: 2 h, min_requests: 400, approval: true}
  - {weight: 100}
metrics:
  - {name: errors, margin: 1.5, floor: 0.02, required: true}
  - {name: latency, slo_ms: 250, tolerance: 1.1, margin: 1.5, action: pause}
  - {name: disagreement, limit: 0.04, action: observe}
interval: 30s
label_maturity: 2d
keep_warm: 1h
ready_within: 1.5m
alpha_rollback: 0.01
alpha_promote: 0.02
guard: {consecutive: 5, units: 2, share: 0.3, requests: 80}
deadline: 3d
approval_timeout: 4h
inconclusive_limit: 9
on_inconclusive: abort
probation: 12h
reverse_shadow: 10
candidates:
  - {version: 5, max_weight: 50}
  - {version: 6, max_weight: 25}
winner: latency
"""
READ = Plan(
    (Step(50, 90.0, 20, shadow_bp=1_250), Step(1_000, 900.0), Step(5_000, 7_200.0, 400, True),
     Step(10_000)),
    (Metric("errors", margin=1.5, floor=0.02, required=True),
     Metric("latency", tolerance=1.1, margin=1.5, action="pause", slo_ms=250),
     Metric("disagreement", action="observe", limit=0.04)),
    interval_s=30.0, label_maturity_s=172_800.0, keep_warm_s=3_600.0, ready_within_s=90.0,
    alpha_rollback=0.01, alpha_promote=0.02, guard=Guard(5, 2, 0.3, 80), deadline_s=259_200.0,
    approval_timeout_s=14_400.0, inconclusive_limit=9, on_inconclusive="abort",
    probation_s=43_200.0, reverse_shadow_bp=1_000,
    candidates=(Candidate(5, 5_000), Candidate(6, 2_500)), winner="latency",
)  # fmt: skip


def _faults(document: object) -> list[str]:
    with pytest.raises(InvalidInput) as refused:
        plan_of(document)
    return [str(fault) for fault in refused.value.faults]


def test_every_field_is_read() -> None:
    """Each one says something else than the preset does, and comes out as it was written."""
    document = yaml.safe_load(EVERYTHING)
    assert plan_of(document) == READ
    assert set(document) == set(KEYS)
    assert {key for step in document["steps"] for key in step} == set(STEP_KEYS)
    assert {key for metric in document["metrics"] for key in metric} == set(METRIC_KEYS)
    assert set(document["guard"]) == set(GUARD_KEYS)
    assert {key for one in document["candidates"] for key in one} == set(CANDIDATE_KEYS)
    for name in Plan.__dataclass_fields__:
        assert getattr(READ, name) != getattr(PRESETS["careful"], name), name


@pytest.mark.parametrize("name", list(PRESETS))
def test_what_is_not_said_is_the_preset_s(name: str) -> None:
    """A preset alone is itself; one field more changes that field."""
    assert plan_of({"preset": name}) == PRESETS[name]  # type: ignore[index]
    assert plan_of({}) == PRESETS["standard"]
    changed = plan_of({"preset": name, "interval": "7s"})
    assert changed == replace(PRESETS[name], interval_s=7.0)  # type: ignore[index]


ONE = [{"weight": 5}, {"weight": 100}]
REQUIRED = {"name": "errors", "required": True}
PAIRED = [REQUIRED, {"name": "paired"}]


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        (None, "plan: has fields preset, steps,"),
        (["steps"], "found ['steps']"),
        ({"stepps": ONE}, "plan.stepps: is no field; these are: preset, steps"),
        ({7: ONE}, "plan.7: is no field"),
        ({"preset": "slow"}, "preset: is one of fast, standard, careful, found 'slow'"),
        ({"preset": ["fast"]}, "preset: is one of fast, standard, careful, found ['fast']"),
        ({"steps": {}}, "steps: is a list of 1 to 100, found {}"),
        ({"steps": []}, "steps: is a list of 1 to 100"),
        ({"steps": [{"weight": 1}] * 101}, "steps: is a list of 1 to 100"),
        ({"steps": [5, 100]}, "steps[0]: has fields weight, bake, min_requests, approval, shadow;"),
        ({"steps": [{}]}, "steps[0].weight: is a number, found None"),
        ({"steps": [*ONE, {"weight": "x"}]}, "steps[2].weight: is a number, found 'x'"),
        ({"steps": [{"weight": float("nan")}]}, "steps[0].weight: is a number, found nan"),
        ({"steps": [{"weight": True}]}, "steps[0].weight: is a number, found True"),
        ({"steps": [{"weight": 5, "bake": "soon"}]}, "steps[0].bake: is a time such as 30, 10m"),
        ({"steps": [{"weight": 5, "bake": -3}]}, "steps[0].bake: is a time"),
        ({"steps": [{"weight": 5, "bake": [1]}]}, "steps[0].bake: is a time"),
        ({"steps": [{"weight": 5, "min_requests": 1.5}]}, "steps[0].min_requests: is a whole"),
        ({"steps": [{"weight": 5, "min_requests": -1}]}, "steps[0].min_requests: is a whole"),
        ({"steps": [{"weight": 5, "min_requests": True}]}, "steps[0].min_requests: is a whole"),
        ({"steps": [{"weight": 5, "approval": "yes"}]}, "steps[0].approval: is true or false"),
        ({"steps": [{"weight": 5, "wieght": 1}]}, "steps[0].wieght: is no field"),
        ({"steps": [{"weight": 50}]}, "steps: the last step is 100 %"),
        ({"steps": [{"weight": 50}, {"weight": 5}, {"weight": 100}]}, "found 50, 5, 100"),
        ({"steps": [{"weight": -1}, {"weight": 100}]}, "weights grow from above 0, found -1, 100"),
        ({"steps": [{"weight": 0.001}, {"weight": 100}]}, "weights grow from above 0, found 0"),
        ({"steps": [{"weight": 101}]}, "the last step is 100 %"),
        ({"steps": [{"weight": 0}, *ONE]}, "only a first step with a shadow may have 0"),
        ({"steps": [{"weight": 5}, {"weight": 0, "shadow": 9}, {"weight": 100}]}, "5, 0, 100"),
        ({"steps": [{"weight": 0, "shadow": 9}, {"weight": 0, "shadow": 9}, *ONE]}, "0, 0, 5, 100"),
        ({"steps": [{"weight": 5, "shadow": 101}, {"weight": 100}]},
         "steps[0].shadow: is from 0 to 100 percent, found 101"),
        ({"steps": [{"weight": 5, "shadow": -1}, {"weight": 100}]}, "percent, found -1"),
        ({"steps": [{"weight": 5, "shadow": "all"}, {"weight": 100}]}, "steps[0].shadow: is a num"),
        ({"steps": [{"weight": 5}, {"weight": 100, "shadow": 5}]},
         "steps[1].shadow: repeats what stable answers, and at 100 % that is nothing"),
        ({"reverse_shadow": 5}, "reverse_shadow: is a part of the probation, and there is none"),
        ({"reverse_shadow": 101, "probation": 9}, "reverse_shadow: is from 0 to 100 percent"),
        ({"reverse_shadow": [5], "probation": 9}, "reverse_shadow: is a number"),
        ({"reverse_shadow": 5, "probation": "1d", "metrics": PAIRED},
         "reverse_shadow: counts for paired when labels are 86400 s old, and the probation is over "
         "in 86400"),
        ({"metrics": [REQUIRED, {"name": "paired", "required": True}]}, "metrics.paired: tells"),
        ({"metrics": "errors"}, "metrics: is a list of 1 to 100, found 'errors'"),
        ({"metrics": [{}]}, "metrics[0].name: is missing"),
        ({"metrics": [{"name": 5}]}, "metrics[0].name: is a name, found 5"),
        ({"metrics": [REQUIRED, {"name": "eror"}]}, "metrics.eror: is unknown; these are known:"),
        ({"metrics": [REQUIRED, REQUIRED]}, "metrics.errors: is there twice"),
        ({"metrics": [{"name": "errors"}]}, "metrics: at least one metric is required"),
        ({"metrics": [REQUIRED, {"name": "latency"}]}, "metrics.latency: needs slo_ms"),
        ({"metrics": [REQUIRED, {"name": "disagreement"}]}, "metrics.disagreement: needs a limit"),
        ({"metrics": [REQUIRED | {"tolerance": 0.5}]}, "metrics.errors: tolerance is at least 1"),
        ({"metrics": [REQUIRED | {"margin": 0}]}, "margin above 0"),
        ({"metrics": [REQUIRED | {"margin": "2"}]}, "metrics[0].margin: is a number, found '2'"),
        ({"metrics": [REQUIRED | {"floor": 0.5}]}, "metrics.errors: floor is above 0 and below"),
        ({"metrics": [REQUIRED | {"action": "stop"}]}, "metrics[0].action: is one of rollback, "),
        ({"metrics": [REQUIRED | {"action": []}]}, "metrics[0].action: is one of rollback, "),
        ({"metrics": [REQUIRED | {"required": 1}]}, "metrics[0].required: is true or false"),
        ({"metrics": [REQUIRED | {"slo_ms": 1.5}]}, "metrics[0].slo_ms: is a whole number"),
        ({"guard": 5}, "guard: has fields consecutive, units, share, requests; found 5"),
        ({"guard": {"shares": 1}}, "guard.shares: is no field"),
        ({"guard": {"share": "all"}}, "guard.share: is a number"),
        ({"guard": {"share": 0}}, "guard.share: is above 0"),
        ({"guard": {"consecutive": 0}}, "limits: counts of intervals and requests are at least 1"),
        ({"guard": {"units": "two"}}, "guard.units: is a whole number"),
        ({"interval": 0}, "times: the interval is above 0"),
        ({"interval": date(2026, 1, 1)}, "interval: is a time such as"),
        ({"approval_timeout": "0s"}, "times: the interval is above 0, other times are not"),
        ({"deadline": "1h"}, "deadline_s: is above the steps' 13200 s"),
        ({"deadline": "31d"}, "at most 2592000, found 2678400"),
        ({"alpha_rollback": 1}, "alpha: chances are above 0 and below 1"),
        ({"alpha_promote": None}, "alpha_promote: is a number, found None"),
        ({"inconclusive_limit": 0}, "limits: counts of intervals"),
        ({"inconclusive_limit": "ten"}, "inconclusive_limit: is a whole number"),
        ({"on_inconclusive": "approve"}, "on_inconclusive: is one of pause, abort, found"),
        ({"probation": 16**5_000}, "probation: is a time such as 30, 10m, 1h or 7d, found a num"),
        ({"candidates": 5}, "candidates: is a list of 1 to 100, found 5"),
        ({"candidates": [5]}, "candidates[0]: has fields version, max_weight; found 5"),
        ({"candidates": [{"max_weight": 50}]}, "candidates[0].version: is a whole number"),
        ({"candidates": [{"version": "latest"}]}, "candidates[0].version: is a whole number"),
        ({"candidates": [{"version": 5}, {"version": 6}]}, "100 % together at most, each above 0"),
        ({"candidates": [{"version": 5, "max_weight": 0}]}, "each above 0: 0"),
        ({"candidates": [{"version": 5, "max_weight": 9}] * 2}, "candidates: are at most 4 differ"),
        ({"candidates": [{"version": 5, "max_weight": 0.5}]}, "candidates[0].max_weight: 0.5 % is"),
        ({"winner": "speed"}, "winner: is ask or one of the plan's metrics: speed"),
        ({"winner": 5}, "winner: is a name, found 5"),
        ({16**5_000: 1}, "plan.a number of thousands of digits: is no field"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_place(document: object, fault: str) -> None:
    """Where it is and what was found there, in words that lead to mending it."""
    faults = _faults(document)
    assert any(fault in found for found in faults), faults


def test_all_faults_are_named_at_once() -> None:
    """One round is enough to mend what cannot be read."""
    faults = _faults({"preset": 1, "steps": [{"weight": "a"}, 5], "gard": {}, "interval": "x"})
    assert [fault.split(":")[0] for fault in faults] == [
        "plan.gard", "preset", "interval", "steps[0].weight", "steps[1]", "steps[1].weight",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [("90s", 90), (90, 90), ("1.5h", 5_400), ("7d", 604_800), ("2 m", 120), (0.25, 0.25), ("0", 0),
     ("-1", None), ("1w", None), ("", None), ("1h30m", None), (None, None), (True, None),
     ("١", None), ("1e3", None), (-2, None), (10**9, None), (float("nan"), None), (["1"], None)],
)  # fmt: skip
def test_times_are_read_as_people_write_them(text: object, found: float | None) -> None:
    """A number and a unit, nothing before, between or after."""
    assert seconds(text) == found


def test_what_is_said_of_a_huge_document_is_short() -> None:
    """Lists of the same list are small in a file and would be endless when written out."""
    laughs: list[object] = ["ha"] * 9
    for _ in range(30):
        laughs = [laughs] * 9
    circle: list[object] = []
    circle.append(circle)
    for document in (laughs, {"steps": laughs}, {"interval": laughs}, circle, {"guard": circle}):
        assert all(len(fault) < 400 for fault in _faults(document))


numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.builds(pow, st.just(16), st.just(5_000)),
    st.booleans(),
    st.none(),
)
words = st.one_of(st.text(max_size=8), st.sampled_from(["1h", "10m", "fast", "errors", "abort"]))
keys = st.one_of(st.sampled_from([*KEYS, *STEP_KEYS, *METRIC_KEYS, *GUARD_KEYS]), words, numbers)
documents = st.recursive(
    st.one_of(numbers, words, st.dates(), st.binary(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=5),
        st.fixed_dictionaries({}, optional={key: inner for key in KEYS}),
    ),
    max_leaves=25,
)  # fmt: skip


def _weight(step: dict[str, Any]) -> float:
    return float(step["weight"])


nearly = st.fixed_dictionaries(
    {},
    optional={
        "preset": st.sampled_from(list(PRESETS)),
        "steps": st.lists(
            st.fixed_dictionaries(
                {"weight": st.one_of(st.floats(0, 100), st.integers(1, 100))},
                optional={"bake": st.sampled_from([0, "30s", "10m"]),
                          "min_requests": st.integers(0, 500), "approval": st.booleans()},
            ), max_size=4,
        ).map(lambda steps: [*sorted(steps, key=_weight), {"weight": 100}]),
        "metrics": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["errors", "labels", "latency", "cost", "disagreement"])},
                optional={"required": st.booleans(), "floor": st.floats(0, 0.6),
                          "slo_ms": st.integers(0, 999), "limit": st.floats(0, 0.6),
                          "margin": st.floats(0, 3), "tolerance": st.floats(0.9, 2)},
            ), min_size=1, max_size=3,
        ),
        "interval": st.sampled_from([0, 1, "5s", "0.000001"]),
        "guard": st.dictionaries(st.sampled_from(GUARD_KEYS), st.integers(0, 9)),
    },
)  # fmt: skip


@given(st.one_of(documents, nearly))
@example({"preset": {}})
@example({"metrics": [{"name": []}]})
def test_any_document_is_a_plan_or_is_refused(document: Any) -> None:
    """Never another error; and a plan that is read can be carried out."""
    try:
        plan = plan_of(document)
    except InvalidInput as refused:
        assert refused.faults
        assert all(fault.where and fault.what for fault in refused.faults)
    else:
        check_plan(plan)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"steps: [", "is no YAML"),
        (b"\xff\xfe\x00", "is no YAML"),
        (b"!!python/object:os.system {}", "is no YAML"),
        (b"[" * 5_000, "is no YAML"),
        (b"interval: 2026-99-99", "is no YAML"),
        (b"interval: " + b"9" * 5_000, "is no YAML"),
        (b"#" * (LARGEST_BYTES + 1), "is larger than 65536 bytes"),
        (b"interval: soon", "interval: is a time"),
        (b"interval: 0x" + b"f" * 5_000, "interval: is a time"),
        (b"", "plan: has fields"),
    ],
)
def test_a_file_that_holds_no_plan_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    """Whatever is in it; the file or the field is named, and no code in it is run."""
    file = tmp_path / "plan.yaml"
    file.write_bytes(content)
    with pytest.raises(InvalidInput) as refused:
        read_plan(file)
    assert any(says in str(fault) for fault in refused.value.faults)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With what the system says; a file that is there is read."""
    with pytest.raises(InvalidInput, match=r"gone\.yaml: No such file"):
        read_plan(tmp_path / "gone.yaml")
    file = tmp_path / "plan.yaml"
    file.write_text(EVERYTHING)
    assert read_plan(file) == READ
