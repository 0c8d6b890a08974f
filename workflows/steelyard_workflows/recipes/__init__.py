"""Recipes: a function each, which returns a complete workflow. The name is the function's."""

from collections.abc import Callable

from steelyard_workflows.recipes.digits_cnn import digits_cnn
from steelyard_workflows.workflow import Workflow

RECIPES: dict[str, Callable[[], Workflow]] = {"digits_cnn": digits_cnn}
