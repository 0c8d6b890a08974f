"""What a workflow will make once its version is registered, in words, before anything starts."""

from typing import Any

from steelyard.domain import presets
from steelyard.domain.rollout_plan import shortest_s
from steelyard_workflows.afterwards.rollout import plan_of
from steelyard_workflows.workflow import Gates, Rollout, Workflow


def lines(workflow: Workflow) -> list[str]:
    """One line a part, in the order in which they are made; none for nothing."""
    found = []
    for one in workflow.evaluations:
        asked = "" if one.min_accuracy is None else f", accuracy {one.min_accuracy:g} at least"
        found.append(f"evaluation {one.name}: every version on the rows of {one.rows}{asked}")
    for variant in workflow.variants:
        options = ", ".join(f"{key}={value}" for key, value in variant.options.items())
        about = f" ({options})" if options else ""
        found.append(f"variant {variant.kind}{about}: {_gates(variant.gates)}")
    if workflow.rollout is not None:
        found.append(_rollout(workflow.rollout, workflow))
    return [f"afterwards: {line}" for line in found]


def document(workflow: Workflow) -> dict[str, Any]:
    """The same parts as JSON has them, with the steps of the rollout."""
    shown = workflow.model_dump(mode="json", include={"evaluations", "variants", "rollout"})
    if workflow.rollout is not None:
        plan = plan_of(workflow.rollout)
        weights = [step.weight_bp / 100 for step in plan.steps]
        shown["rollout"] |= {"steps": weights, "shortest_s": shortest_s(plan)}
    return {key: value for key, value in shown.items() if value}


def _gates(gates: Gates) -> str:
    asked = gates.model_dump(exclude_none=True)
    return ", ".join(f"{key} {value:g}" for key, value in asked.items()) or "no gates of its own"


def _rollout(asked: Rollout, workflow: Workflow) -> str:
    plan = plan_of(asked)
    weights = ", ".join(f"{step.weight_bp / 100:g}" for step in plan.steps)
    hours = shortest_s(plan) / presets.HOUR_S
    time = f"{hours:.0f} h" if hours >= 2 else f"{hours * 60:.0f} min"
    return (
        f"rollout {asked.preset} of {workflow.model}'s {asked.version} version, once sets and "
        f"gates have passed: {weights} %, in {time} at least"
    )
