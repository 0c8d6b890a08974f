"""Keys from the ledger to the answer of a replica, through the real edge."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steelyard.bootstrap import Platform
from steelyard.domain.api_key import ApiKey
from steelyard.domain.serving_snapshot import Snapshot
from steelyard.domain.traffic import Route
from steelyard.services.keys import KeyRequest
from steelyard.settings import Settings
from steelyard_serving.snapshot_file import SnapshotFile
from steelyard_serving.traffic_router import EdgeRouter

from .conftest import Client

pytestmark = [pytest.mark.alone, pytest.mark.integration]
INFER = "/v2/models/scale/infer"
ROWS = b'{"inputs":[{"name":"x","shape":[2,4],"datatype":"FP32","data":[1,2,3,4,5,6,7,8]}]}'
Tell = Callable[[bool, dict[str, ApiKey]], None]
SOON_S = 5.0
"""Within which everything that was told must hold."""


@pytest.fixture
def tell(ray_cluster: Settings) -> Iterator[Tell]:
    """Does what a turn of the controller does; afterwards, nobody needs a key."""

    def tell(needed: bool, keys: dict[str, ApiKey]) -> None:
        SnapshotFile(ray_cluster).write(Snapshot(needed, keys=keys))
        EdgeRouter(ray_cluster).limit(keys)

    yield tell
    tell(False, {})


@pytest.mark.usefixtures("applications")
def test_a_key_opens_is_limited_and_is_revoked(
    client: Client, route: Callable[..., Route], tell: Tell, tmp_path: Path
) -> None:
    """What a person commands holds within 5 s for whoever asks through the edge."""
    platform = Platform(Settings(home=tmp_path))
    route()

    def ask(text: str = "") -> tuple[int, Any]:
        status, _, document = client.call("POST", INFER, ROWS, {"x-api-key": text} if text else {})
        return status, document

    def until(status: int, text: str = "") -> Any:
        deadline = time.monotonic() + SOON_S
        while (found := ask(text))[0] != status:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found[1]

    try:
        key, text = platform.keys.create(KeyRequest("ada", items_per_day=5), "user:ada")
        until(200)
        tell(True, platform.keys.live())
        assert "key" in until(401)["error"]
        assert ask(text)[1]["outputs"][0]["data"] == [1, 2, 3, 4, 5, 6, 7, 8]
        assert [ask(text)[0] for _ in range(2)] == [200, 429]
        assert ask(f"{text[:-1]}!")[0] == 401
        platform.keys.revoke(key.key_id, "user:ada", "it leaked")
        tell(True, platform.keys.live())
        assert until(401, text) == until(401)
        tell(False, {})
        until(200)
        assert ask(text)[0] == 401
    finally:
        platform.engine.dispose()
