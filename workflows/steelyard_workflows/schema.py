"""The JSON Schema of a workflow file: what editors complete, explain and check as one types."""

import json
from typing import Any

from steelyard_workflows.recipes import NAMES
from steelyard_workflows.workflow import Workflow

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """The schema of a file: of its keys only ``recipe`` is required, the recipe has the rest.

    Defaults are left out for the same reason: a key that is not given has the recipe's value.
    """
    made = Workflow.model_json_schema()
    sections = [made, *made["$defs"].values()]
    for section in sections:
        section.pop("required", None)
        for value in section["properties"].values():
            value.pop("default", None)
            value.pop("title", None)
    made["properties"]["recipe"] |= {
        "anyOf": [{"enum": list(NAMES)}, {"pattern": r"^[\w.]+:\w+$"}],
        "description": "A built-in recipe, or module:function of your own code.",
    }
    made["required"] = ["recipe"]
    return {"$schema": DIALECT, **made, "title": "Steelyard workflow file"}


def text() -> str:
    """The schema as the file docs/reference/workflow.schema.json holds it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
