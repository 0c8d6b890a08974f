"""What the controller knew when it decided, so that the decision can be made again."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from steelyard.domain.advance import advance
from steelyard.domain.analysis import Verdict
from steelyard.domain.rollout import Evidence, Recent, Rival, Rollout
from steelyard.domain.rollout_plan import Plan


def told(before: Rollout, evidence: Evidence) -> str:
    """The rollout before and the evidence, as the event of the decision keeps them."""
    state = asdict(before)
    del state["plan"]
    return json.dumps({"before": state, "evidence": asdict(evidence)}, sort_keys=True)


def said(text: str) -> str:
    """What an event's evidence says, in one line for people."""
    if not text.startswith("{"):
        return text
    verdicts = json.loads(text)["evidence"]["verdicts"]
    return "; ".join(_verdict(one).summary for one in verdicts)


def retold(text: str, plan: Plan) -> tuple[Rollout, Evidence] | None:
    """What an event kept; None for a person's verb and for events from before this was kept."""
    if not text.startswith("{"):
        return None
    document = json.loads(text)
    evidence = dict(document["evidence"])
    evidence["verdicts"] = tuple(_verdict(one) for one in evidence["verdicts"])
    recent = evidence["recent"]
    evidence["recent"] = Recent(
        **{**recent, "canary": tuple(recent["canary"]), "stable": tuple(recent["stable"])}
    )
    evidence["rivals"] = tuple(Rival(**one) for one in evidence.get("rivals", ()))
    return Rollout(**document["before"], plan=plan), Evidence(**evidence)


def decided_again(text: str, plan: Plan, at_us: int) -> Rollout | None:
    """What the same rule says to the same evidence; None where there was none."""
    known = retold(text, plan)
    return None if known is None else advance(*known, at_us)


def _verdict(document: Mapping[str, Any]) -> Verdict:
    pairs = {name: tuple(document[name]) for name in ("canary", "stable")}
    return Verdict(**{**document, **pairs})
