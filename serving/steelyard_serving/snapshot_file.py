"""The signed snapshot on disk: what this machine's replicas go by when they answer."""

from steelyard.domain.errors import Unavailable
from steelyard.domain.serving_snapshot import Snapshot, sealed
from steelyard.settings import Settings
from steelyard_serving.edge.maps import write_private
from steelyard_serving.secret_files import private_dir, serving_key


class SnapshotFile:
    """The file that the controller writes. It stays when controller and database are away."""

    def __init__(self, settings: Settings) -> None:
        self.path = settings.run_dir / "serving.snapshot"
        self._settings = settings

    def write(self, snapshot: Snapshot) -> bool:
        """Make the file say this, as a whole and durably; False when it does already.

        Raises:
            Unavailable: it cannot be written; the one that was there stays.
        """
        try:
            document = sealed(snapshot, serving_key(self._settings))
            if self.path.exists() and self.path.read_bytes() == document:
                return False
            private_dir(self.path.parent)
            write_private(self.path, document.decode())
        except OSError as error:
            raise Unavailable(f"The snapshot {self.path} cannot be written: {error}.") from error
        return True
