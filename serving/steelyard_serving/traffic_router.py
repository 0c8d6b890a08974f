"""TrafficRouter on the edge's maps: first on disk, then live, then read back."""

import time
from collections.abc import Mapping
from pathlib import Path

from steelyard.domain.api_key import ApiKey
from steelyard.domain.errors import Conflict, Unavailable
from steelyard.domain.serving_policy import ServingPolicy
from steelyard.domain.traffic import Route
from steelyard.settings import Settings
from steelyard_serving.door_ports import doors
from steelyard_serving.edge.admin import AdminSocket
from steelyard_serving.edge.canary import GUARD
from steelyard_serving.edge.files import edge_files
from steelyard_serving.edge.limits import limit_entries
from steelyard_serving.edge.maps import (
    deployed_entries,
    door_entries,
    generations,
    read_map,
    route_entries,
    status_entries,
    text_of,
    write_private,
)
from steelyard_serving.edge.steering import steering_entries
from steelyard_serving.secret_files import private_dir

SETTLE_S = 3.0
"""How long live maps may take to equal what was asked; a set takes far below a millisecond."""


class EdgeRouter:
    """Owns the maps. The files are what a restarted edge begins with."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._files = edge_files(settings)
        self._admin = AdminSocket(self._files.admin)

    def apply(self, routes: Mapping[str, Route], deployed: frozenset[tuple[str, int]]) -> None:
        """Make exactly these routes live, durably.

        Raises:
            Conflict: a model is live under a later generation; nothing was changed.
            Unavailable: the edge does not take them; a restarted edge will read them from disk.
        """
        wanted = route_entries(routes)
        self._refuse_older(generations(wanted))
        private_dir(self._files.folder)
        files = self._files
        # A version may be asked for before it gets traffic, and after it lost it.
        plan = [
            (files.doors, door_entries(doors(self._settings))),
            (files.deployed, deployed_entries(deployed)),
            (files.routes, wanted),
            (files.status, status_entries(routes, deployed)),
        ]
        for file, entries in plan:
            if read_map(file) != entries or not file.exists():
                write_private(file, text_of(entries))
        for file, entries in plan:
            self._make_live(file, entries)

    def limit(self, keys: Mapping[str, ApiKey]) -> None:
        """Make exactly these keys' limits live, durably.

        Raises:
            Unavailable: the edge does not take them; a restarted edge will read them from disk.
        """
        self._keep(self._files.limits, limit_entries(keys))

    def steer(
        self, policies: Mapping[str, ServingPolicy], deployed: frozenset[tuple[str, int]]
    ) -> None:
        """Let exactly these policies say where units are found and which headers choose a version.

        Raises:
            Unavailable: the edge does not take them; a restarted edge will read them from disk.
        """
        self._keep(self._files.steering, steering_entries(policies, deployed))

    def diverted(self) -> frozenset[tuple[str, int]]:
        """The versions whose share the edge's own guard sends to stable now.

        Raises:
            Unavailable: the edge does not answer.
        """
        rows = self._admin.show_table(GUARD)
        parts = (key.split("/") for key, values in rows.items() if values.get("gpt0") == "1")
        live = generations(read_map(self._files.routes))
        return frozenset((model, int(version)) for model, version, generation in parts
                         if live.get(model) == int(generation))  # fmt: skip

    def _keep(self, file: Path, entries: Mapping[str, str]) -> None:
        private_dir(self._files.folder)
        if read_map(file) != entries or not file.exists():
            write_private(file, text_of(entries))
        self._make_live(file, entries)

    def _refuse_older(self, wanted: Mapping[str, int]) -> None:
        for model, live in generations(read_map(self._files.routes)).items():
            if model in wanted and wanted[model] < live:
                raise Conflict(
                    f"The route of {model} has generation {live}, found {wanted[model]}.",
                    "Another controller is ahead; read the desired routes again.",
                )

    def _make_live(self, file: Path, wanted: Mapping[str, str]) -> None:
        deadline = time.monotonic() + SETTLE_S
        while (live := self._admin.show_map(file)) != wanted:
            if time.monotonic() > deadline:
                raise Unavailable(f"The edge's {file.name} does not become what was asked.")
            for key, value in wanted.items():
                if live.get(key) != value:
                    self._admin.set_entry(file, key, value, known=key in live)
            for key in live.keys() - wanted.keys():
                self._admin.delete_entry(file, key)
