"""Serving policies: how a model answers, set by people, changed while it serves."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.serving_policy import PolicyChange, ServingPolicy
from steelyard.domain.unit_key import field_fault
from steelyard.services.known_models import check_models

if TYPE_CHECKING:
    from steelyard.adapters.sql.serving_policies import ServingPolicyStore
    from steelyard.ports.clock import Clock
    from steelyard.ports.registry import Registry


class Policies:
    """The use cases of serving policies."""

    def __init__(
        self, store: "ServingPolicyStore", registry: "Registry", clock: "Clock",
        unit_fields: Collection[str],
    ) -> None:  # fmt: skip
        """``unit_fields`` are the fields of bodies that the edge can take a unit from."""
        self._unit_fields = unit_fields
        self._store = store
        self._registry = registry
        self._clock = clock

    def current(self) -> Mapping[str, ServingPolicy]:
        """Model -> its policy, for the models for which somebody set one."""
        return self._store.current()

    def policy(self, model: str) -> ServingPolicy:
        """A model's policy; the defaults where nobody set one."""
        history = self._store.history(model)
        return history[-1].policy if history else ServingPolicy()

    def history(self, model: str) -> list[PolicyChange]:
        """Every policy that was ever set for a model, oldest first.

        Raises:
            NotFound: there is no such model.
        """
        check_models(self._registry, model)
        return self._store.history(model)

    def change(
        self, model: str, values: Mapping[str, object], actor: str, reason: str = ""
    ) -> PolicyChange:
        """Set some fields of a model's policy; replicas go by it within seconds.

        Raises:
            NotFound: there is no such model.
            InvalidInput: nothing is set, a name or a value is not one of a policy's, or the edge
                does not read the field that the unit should come from.
        """
        if not values:
            raise InvalidInput(str(Fault("values", "nothing is set")), (), "Write FIELD=VALUE.")
        check_models(self._registry, model)
        self._check_field(values.get("unit_field"))
        return self._store.change(model, values, actor, reason.strip(), self._clock.now_us())

    def _check_field(self, path: object) -> None:
        if not isinstance(path, str) or field_fault(path) or path in self._unit_fields:
            return
        known = ", ".join(sorted(self._unit_fields))
        fault = Fault("unit_field", f"is none that the edge reads, which are {known}; not {path!r}")
        raise InvalidInput(str(fault), (fault,), "The setting unit_fields names more.")
