"""Whatever owns the weights: the edge in production."""

from collections.abc import Mapping
from typing import Protocol

from steelyard.domain.api_key import ApiKey
from steelyard.domain.serving_policy import ServingPolicy
from steelyard.domain.traffic import Route


class TrafficRouter(Protocol):
    """Applying the same table again changes nothing."""

    def apply(self, routes: Mapping[str, Route], deployed: frozenset[tuple[str, int]]) -> None:
        """Make exactly these routes live, durably; return when each is seen live.

        ``deployed`` lists the (model, version) pairs that answer explicit-version requests.
        Raises Unavailable when the router does not take them; the durable copy is written anyway.
        """
        ...

    def limit(self, keys: Mapping[str, ApiKey]) -> None:
        """Hold exactly these API keys to their requests a minute, durably.

        Raises Unavailable as ``apply`` does.
        """
        ...

    def steer(
        self, policies: Mapping[str, ServingPolicy], deployed: frozenset[tuple[str, int]]
    ) -> None:
        """Find units and follow header rules as exactly these policies say, durably.

        A rule to a version that is not deployed is left out. Raises Unavailable as ``apply`` does.
        """
        ...

    def diverted(self) -> frozenset[tuple[str, int]]:
        """The (model, version) pairs whose share goes to stable by the router's own guard."""
        ...
