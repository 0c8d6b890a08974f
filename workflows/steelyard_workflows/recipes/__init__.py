"""Recipes that come with Steelyard: a module each, whose function of the same name makes one."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steelyard_workflows.recipe import Recipe

NAMES = (
    "digits_cnn",
    "digits_resnet",
    "risk_score",
    "text_transformer",
    "byte_gpt",
    "sentence_encoder",
    "fashion_mlp",
    "fashion_resnet",
)


class _Recipes(Mapping[str, Callable[[], "Recipe"]]):
    """Imports a recipe when it is asked for: each brings its own libraries."""

    def __getitem__(self, name: str) -> "Callable[[], Recipe]":
        if name not in NAMES:
            raise KeyError(name)
        module = importlib.import_module(f"steelyard_workflows.recipes.{name}")
        made: Callable[[], Recipe] = getattr(module, name)
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)


RECIPES: "Mapping[str, Callable[[], Recipe]]" = _Recipes()
