"""Where the edge's files are. All of them lie in the private run folder."""

from dataclasses import dataclass
from pathlib import Path

from steelyard.settings import Settings


@dataclass(frozen=True, slots=True)
class EdgeFiles:
    """The configuration, the admin socket, its other sockets and the maps."""

    folder: Path

    @property
    def config(self) -> Path:
        """HAProxy's configuration; holds the bucket key, so mode 0600."""
        return self.folder / "edge.cfg"

    @property
    def admin(self) -> Path:
        """The socket through which maps change."""
        return self.folder / "edge-admin.sock"

    @property
    def room(self) -> Path:
        """The socket of the waiting room, where retries pause."""
        return self.folder / "edge-room.sock"

    @property
    def fallback(self) -> Path:
        """The socket at which stable is asked in the place of a canary that nobody reaches."""
        return self.folder / "edge-back.sock"

    @property
    def patience(self) -> Path:
        """The socket at which the canary is asked again, when stable was not there either."""
        return self.folder / "edge-wait.sock"

    @property
    def grpc(self) -> Path:
        """The socket at which the gRPC door asks: as the public port, without TLS."""
        return self.folder / "edge-grpc.sock"

    @property
    def routes(self) -> Path:
        """Model -> ``stable|canary|weight_bp|lineage|generation``."""
        return self.folder / "route.map"

    @property
    def deployed(self) -> Path:
        """``model/version`` -> 1: the versions that may be asked for by number."""
        return self.folder / "deployed.map"

    @property
    def doors(self) -> Path:
        """``model/version`` -> the port at which its replicas answer."""
        return self.folder / "doors.map"

    @property
    def status(self) -> Path:
        """``ready`` -> 0 or 1; ``index`` and ``index_ready`` -> the repository index."""
        return self.folder / "status.map"

    @property
    def limits(self) -> Path:
        """Key id -> ``requests a minute|SHA-256 of its secret``."""
        return self.folder / "limits.map"

    @property
    def steering(self) -> Path:
        """Model -> ``unit's header&unit's field&rules``, where its policy says any of them."""
        return self.folder / "steering.map"

    @property
    def maps(self) -> tuple[Path, ...]:
        """All maps."""
        return self.routes, self.deployed, self.doors, self.status, self.limits, self.steering


def edge_files(settings: Settings) -> EdgeFiles:
    """The edge's files under these settings."""
    return EdgeFiles(settings.run_dir)
