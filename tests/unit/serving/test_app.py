"""What Ray Serve is asked for: which change replaces replicas, and which only changes numbers."""

from collections.abc import Callable
from dataclasses import replace

from steelyard.ports.applications import Replicas, ServedVersion
from steelyard.settings import Settings
from steelyard_serving.app import code_version, deployment_of
from steelyard_serving.deployment import Replica

Make = Callable[[int], ServedVersion]


def test_other_numbers_are_no_other_code(settings: Settings, make_served: Make) -> None:
    """Ray Serve restarts replicas whose code version differs: it is ours, and stays."""
    version = make_served(1).version
    one = deployment_of(Replica, version, settings)
    two = deployment_of(Replica, version, settings, Replicas(2, 2))
    load = deployment_of(Replica, version, settings, Replicas(1, 4))
    expected = code_version(version, settings)
    assert {made.version for made in (one, two, load)} == {expected}
    assert (one.num_replicas, two.num_replicas) == (1, 2)


def test_between_two_numbers_the_load_decides(settings: Settings, make_served: Make) -> None:
    """An eighth of what a replica may work on at once is what each is to have."""
    made = deployment_of(Replica, make_served(1).version, settings, Replicas(1, 4))
    scaling = made._deployment_config.autoscaling_config
    assert scaling is not None
    assert (scaling.min_replicas, scaling.max_replicas) == (1, 4)
    assert scaling.target_ongoing_requests == settings.replica_request_limit // 8


def test_other_bytes_or_settings_are_other_code(settings: Settings, make_served: Make) -> None:
    """Replicas that run would go on with what they were started with."""
    version = make_served(1).version
    other = settings.model_copy(update={"body_limit_bytes": 4096})
    found = {
        code_version(version, settings), code_version(version, other),
        code_version(replace(version, sha256="0" * 64), settings),
    }  # fmt: skip
    assert len(found) == 3
