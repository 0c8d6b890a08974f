"""The edge's maps in memory, read as HAProxy reads them, and changed entry by entry."""

from functools import lru_cache
from pathlib import Path

from steelyard.domain.traffic import Route
from steelyard_serving.edge.files import EdgeFiles
from steelyard_serving.edge.maps import read_map, route_of, status_entries
from steelyard_serving.edge.steering import Steering, steering_of


class Table:
    """What a restarted edge finds on disk, and what it is told after that."""

    def __init__(self, files: EdgeFiles) -> None:
        self.maps: dict[Path, dict[str, str]] = {path: read_map(path) for path in files.maps}
        # Found once: a path is slow to make and to hash.
        self._routes = self.maps[files.routes]
        self._deployed = self.maps[files.deployed]
        self._doors = self.maps[files.doors]
        self._limits = self.maps[files.limits]
        self._steering = self.maps[files.steering]
        self._status = self.maps[files.status]
        self._status.update(status_entries({}, frozenset()) | self._status)

    @property
    def ready(self) -> bool:
        """Whether something is routed and every stable version is deployed."""
        return self._status["ready"] == "1"

    def index(self, ready: bool) -> str:
        """The repository index, of all versions or of those that are ready."""
        return self._status["index_ready" if ready else "index"]

    def route(self, model: str) -> Route | None:
        """Where a model's requests go; None: it is not known."""
        line = self._routes.get(model)
        return None if line is None else _route(model, line)

    def is_deployed(self, model: str, version: str) -> bool:
        """Whether a version may be asked for by its number."""
        return f"{model}/{version}" in self._deployed

    def door(self, model: str, version: int) -> int | None:
        """The port at which a version's replicas answer; None: it has none."""
        port = self._doors.get(f"{model}/{version}")
        return None if port is None else int(port)

    def answers(self, model: str) -> bool:
        """Whether a model is routed and its stable version deployed."""
        route = self.route(model)
        return route is not None and self.is_deployed(model, str(route.stable))

    def limit(self, key_id: str) -> tuple[int, str] | None:
        """Requests a minute of a key and the digest of its secret; None: it has no limit."""
        line = self._limits.get(key_id)
        if line is None:
            return None
        most, _, digest = line.partition("|")
        return int(most), digest

    def steering(self, model: str) -> Steering:
        """What the model's policy says of headers and fields."""
        return _steering(self._steering.get(model, "&&"))


@lru_cache(1024)
def _route(model: str, line: str) -> Route:
    return route_of(model, line)


@lru_cache(1024)
def _steering(line: str) -> Steering:
    return steering_of(line)
