"""A rollout plan as a person writes it: a document with a preset and what differs from it.

docs/reference/rollout-plan.md is the annotated example.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from reprlib import Repr
from typing import Any, cast, get_args

from steelyard.domain.analysis import Action, Metric
from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.presets import PRESETS, PresetName
from steelyard.domain.rollout_plan import Candidate, Guard, Plan, Step, Undecided, check_plan
from steelyard.domain.traffic import BUCKETS

DURATION = re.compile(r"(?P<number>[0-9]{1,9}(\.[0-9]{1,6})?) ?(?P<unit>s|m|h|d)?")
SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, None: 1}
TIMES = {
    "interval": "interval_s", "label_maturity": "label_maturity_s", "keep_warm": "keep_warm_s",
    "ready_within": "ready_within_s", "deadline": "deadline_s", "probation": "probation_s",
    "approval_timeout": "approval_timeout_s",
}  # fmt: skip
SHARES = ("alpha_rollback", "alpha_promote")
KEYS = ("preset", "steps", "metrics", "guard", "inconclusive_limit", "on_inconclusive",
        "reverse_shadow", "candidates", "winner", *TIMES, *SHARES)  # fmt: skip
CANDIDATE_KEYS = ("version", "max_weight")
STEP_KEYS = ("weight", "bake", "min_requests", "approval", "shadow")
METRIC_KEYS = tuple(field.name for field in fields(Metric))
GUARD_KEYS = tuple(field.name for field in fields(Guard))


def plan_of(document: object) -> Plan:
    """The plan that a document asks for.

    Raises:
        InvalidInput: it cannot be read or carried out; every fault is named with its place.
    """
    reader = _Reader()
    plan = reader.plan(document)
    if reader.faults:
        raise InvalidInput(
            "The rollout plan cannot be read.", tuple(reader.faults),
            "docs/reference/rollout-plan.md has every field.",
        )  # fmt: skip
    check_plan(plan)
    return plan


def seconds(text: object) -> float | None:
    """A time as people write it, in seconds; None when it is none.

    >>> seconds("10m"), seconds("1.5 h"), seconds(30), seconds("soon")
    (600.0, 5400.0, 30.0, None)
    """
    if isinstance(text, int) and (isinstance(text, bool) or not 0 <= text < 10**9):
        return None
    match = DURATION.fullmatch(str(text)) if isinstance(text, str | int | float) else None
    return float(match["number"]) * SECONDS[match["unit"]] if match else None


class _Reader:
    """Reads field by field and remembers what was wrong, so that all of it is said at once."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def plan(self, document: object) -> Plan:
        found = self._mapping("plan", document, KEYS)
        preset = found.get("preset", "standard")
        if not isinstance(preset, str) or preset not in PRESETS:
            self._fault("preset", f"is one of {', '.join(PRESETS)}, found {_brief(preset)}")
            preset = "standard"
        plan = PRESETS[cast(PresetName, preset)]
        values: dict[str, Any] = {
            name: self._seconds(key, found[key]) for key, name in TIMES.items() if key in found
        }
        values |= {key: self._number(key, found[key]) for key in SHARES if key in found}
        if "inconclusive_limit" in found:
            key = "inconclusive_limit"
            values[key] = self._whole(key, found[key])
        if "on_inconclusive" in found:
            key = "on_inconclusive"
            values[key] = self._choice(key, found[key], get_args(Undecided))
        if "steps" in found:
            values["steps"] = self._list("steps", found["steps"], self._step)
        if "metrics" in found:
            values["metrics"] = self._list("metrics", found["metrics"], self._metric)
        if "guard" in found:
            values["guard"] = self._guard(found["guard"])
        if "candidates" in found:
            values["candidates"] = self._list("candidates", found["candidates"], self._candidate)
        if "winner" in found:
            values["winner"] = self._text("winner", found["winner"])
        if "reverse_shadow" in found:
            share = self._basis_points("reverse_shadow", found["reverse_shadow"])
            values["reverse_shadow_bp"] = share
        elif not _judges_pairs(replace(plan, **values)):
            values["reverse_shadow_bp"] = 0
        return plan if self.faults else replace(plan, **values)

    def _step(self, place: str, item: object) -> Step:
        found = self._mapping(place, item, STEP_KEYS)
        return Step(
            self._basis_points(f"{place}.weight", found.get("weight")),
            self._seconds(f"{place}.bake", found.get("bake", 0)),
            self._whole(f"{place}.min_requests", found.get("min_requests", 0)),
            self._flag(f"{place}.approval", found.get("approval", False)),
            self._basis_points(f"{place}.shadow", found.get("shadow", 0)),
        )

    def _candidate(self, place: str, item: object) -> Candidate:
        found = self._mapping(place, item, CANDIDATE_KEYS)
        return Candidate(
            self._whole(f"{place}.version", found.get("version")),
            self._basis_points(f"{place}.max_weight", found.get("max_weight", 100)),
        )

    def _metric(self, place: str, item: object) -> Metric:
        found = self._mapping(place, item, METRIC_KEYS)
        read: Mapping[str, Callable[[str, object], Any]] = {
            "name": self._text, "tolerance": self._number, "margin": self._number,
            "floor": self._number, "limit": self._number, "slo_ms": self._whole,
            "required": self._flag,
            "action": lambda at, value: self._choice(at, value, get_args(Action)),
        }  # fmt: skip
        if "name" not in found:
            self._fault(f"{place}.name", "is missing")
        values = {key: read[key](f"{place}.{key}", value) for key, value in found.items()}
        return Metric(**({"name": "errors"} | values))

    def _guard(self, item: object) -> Guard:
        found = self._mapping("guard", item, GUARD_KEYS)
        values: dict[str, Any] = {
            key: (self._number if key == "share" else self._whole)(f"guard.{key}", value)
            for key, value in found.items()
        }
        return Guard(**values)

    def _mapping(self, place: str, item: object, keys: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(item, dict):
            self._fault(place, f"has fields {', '.join(keys)}; found {_brief(item)}")
            return {}
        for key in (key for key in item if key not in keys):
            name = key if isinstance(key, str) else _brief(key)
            self._fault(f"{place}.{name}", f"is no field; these are: {', '.join(keys)}")
        return {key: item[key] for key in keys if key in item}

    def _list(self, place: str, item: object, read: Callable[[str, object], Any]) -> Any:
        if not isinstance(item, list) or not 0 < len(item) <= 100:
            self._fault(place, f"is a list of 1 to 100, found {_brief(item)}")
            return ()
        return tuple(read(f"{place}[{index}]", one) for index, one in enumerate(item))

    def _seconds(self, place: str, item: object) -> float:
        found = seconds(item)
        if found is None:
            self._fault(place, f"is a time such as 30, 10m, 1h or 7d, found {_brief(item)}")
        return found or 0.0

    def _number(self, place: str, item: object) -> float:
        if isinstance(item, bool) or not isinstance(item, int | float) or not abs(item) < 1e9:
            self._fault(place, f"is a number, found {_brief(item)}")
            return 0.0
        return float(item)

    def _basis_points(self, place: str, item: object) -> int:
        """Of a share in percent."""
        return round(self._number(place, item) * BUCKETS / 100)

    def _whole(self, place: str, item: object) -> int:
        if type(item) is not int or not 0 <= item < 10**9:
            self._fault(place, f"is a whole number, found {_brief(item)}")
            return 0
        return item

    def _flag(self, place: str, item: object) -> bool:
        if not isinstance(item, bool):
            self._fault(place, f"is true or false, found {_brief(item)}")
        return bool(item)

    def _text(self, place: str, item: object) -> str:
        if not isinstance(item, str):
            self._fault(place, f"is a name, found {_brief(item)}")
            return ""
        return item

    def _choice(self, place: str, item: object, known: tuple[str, ...]) -> Any:
        if item not in known:
            self._fault(place, f"is one of {', '.join(known)}, found {_brief(item)}")
        return item

    def _fault(self, place: str, what: str) -> None:
        self.faults.append(Fault(place, what))


def _judges_pairs(plan: Plan) -> bool:
    """Whether a preset's reverse shadow is of use: there is a time for it, and who looks at it."""
    return plan.probation_s > 0 and any(m.kind in ("limit", "paired") for m in plan.metrics)


def _brief(item: object) -> str:
    """A few characters of it: a small document may say a huge number, or a list of lists of it."""
    short = Repr()
    short.maxlevel = 2
    try:
        text = short.repr(item)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."
