"""A machine and an edge on which nothing happens, for what goes on beside serving."""

from collections.abc import Mapping

from steelyard.domain.api_key import ApiKey
from steelyard.domain.serving_policy import ServingPolicy
from steelyard.domain.traffic import Route
from steelyard.ports.applications import ONE, ApplicationState, Replicas, ServedVersion


class NothingRuns:
    """A machine without applications."""

    def ensure(self, served: ServedVersion, replicas: Replicas = ONE) -> None:
        """Nothing is deployed here."""
        raise AssertionError(served)

    def remove(self, model: str, version: int) -> None:
        """Nothing to remove."""

    def states(self) -> Mapping[tuple[str, int], ApplicationState]:
        """None."""
        return {}


class BareEdge:
    """An edge without policies and keys, before versions that never fail."""

    def steer(
        self, policies: Mapping[str, ServingPolicy], deployed: frozenset[tuple[str, int]]
    ) -> None:
        """No policy is set."""
        assert not policies

    def diverted(self) -> frozenset[tuple[str, int]]:
        """None."""
        return frozenset()

    def limit(self, keys: Mapping[str, ApiKey]) -> None:
        """No keys, so none to limit."""
        assert not keys


class NoEdge(BareEdge):
    """An edge without traffic."""

    def apply(self, routes: Mapping[str, Route], deployed: frozenset[tuple[str, int]]) -> None:
        """No routes, so none to apply."""
        assert not routes
