"""Whether a model is registered, asked before anything is set for it."""

from typing import TYPE_CHECKING

from steelyard.domain.errors import NotFound

if TYPE_CHECKING:
    from steelyard.ports.registry import Registry


def check_models(registry: "Registry", *models: str) -> None:
    """Refuse names that nobody registered.

    Raises:
        NotFound: there is no such model; the first one is named.
    """
    known = set(registry.models())
    for model in models:
        if model not in known:
            raise NotFound(f"There is no model {model!r}.", "See: steelyard models list.")
