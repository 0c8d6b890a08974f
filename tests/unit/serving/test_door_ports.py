"""Which port a version's replicas answer at."""

import socket
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from steelyard.domain.errors import Unavailable
from steelyard.settings import Settings
from steelyard_serving import door_ports
from steelyard_serving.door_ports import LOOPBACK, door_port, doors, forget_door, open_door


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A platform whose ports nobody else in this run has."""
    with closing(socket.create_server((LOOPBACK, 0))) as probe:
        return Settings(home=tmp_path, serve_ports_from=min(probe.getsockname()[1], 60_000))


def _answered_by(port: int, listeners: list[socket.socket]) -> int:
    """Which of the listening sockets gets a connection."""
    with socket.create_connection((LOOPBACK, port)):
        for number, one in enumerate(listeners):
            one.setblocking(False)
            try:
                one.accept()[0].close()
            except BlockingIOError:
                continue
            return number
    raise AssertionError("nobody got it")


def test_replicas_of_a_version_share_its_port(settings: Settings) -> None:
    """Each gets some of the connections, and a version keeps its port."""
    with closing(open_door(settings, "m", 1)) as one, closing(open_door(settings, "m", 1)) as other:
        one.listen()
        other.listen()
        port = one.getsockname()[1]
        assert (other.getsockname()[1], door_port(settings, "m", 1)) == (port, port)
        got = Counter(_answered_by(port, [one, other]) for _ in range(200))
    assert min(got[0], got[1]) > 20


def test_one_that_dies_is_out_at_once_and_the_next_one_takes_its_place(settings: Settings) -> None:
    """No connection goes to a replica that is gone."""
    first, second = open_door(settings, "m", 1), open_door(settings, "m", 1)
    first.listen()
    second.listen()
    port = first.getsockname()[1]
    first.close()
    assert {_answered_by(port, [second]) for _ in range(50)} == {0}
    second.close()
    with closing(open_door(settings, "m", 1)) as third:
        assert third.getsockname()[1] == port


def test_versions_never_share_a_port(settings: Settings) -> None:
    """Another version's requests are answered by nobody else, whoever was there first."""
    with closing(open_door(settings, "m", 1)) as one, closing(open_door(settings, "m", 2)) as two:
        assert one.getsockname() != two.getsockname()
        assert doors(settings) == {
            ("m", 1): one.getsockname()[1], ("m", 2): two.getsockname()[1],
        }  # fmt: skip


def test_a_port_that_somebody_listens_at_is_left_alone(settings: Settings, tmp_path: Path) -> None:
    """Also if it is another platform with the same range, which would share it."""
    other = settings.model_copy(update={"home": tmp_path / "other"})
    with closing(open_door(settings, "m", 1)) as mine, closing(open_door(other, "m", 1)) as theirs:
        assert mine.getsockname() != theirs.getsockname()


def test_a_version_whose_port_was_taken_meanwhile_gets_another(settings: Settings) -> None:
    """It was stopped, and a stranger came."""
    with closing(open_door(settings, "m", 1)) as gone:
        port = gone.getsockname()[1]
    stranger = socket.create_server((LOOPBACK, port))
    with closing(stranger), closing(open_door(settings, "m", 1)) as again:
        assert again.getsockname()[1] == door_port(settings, "m", 1) != port


def test_a_removed_version_leaves_its_port_to_the_next(settings: Settings) -> None:
    """A replica that still drains keeps it until it ends."""
    draining = open_door(settings, "m", 1)
    draining.listen()
    forget_door(settings, "m", 1)
    assert door_port(settings, "m", 1) is None
    with closing(open_door(settings, "m", 2)) as other:
        assert other.getsockname() != draining.getsockname()
    draining.close()


def test_without_a_free_port_it_says_which_setting(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The range is named, and nothing is written."""
    monkeypatch.setattr(door_ports, "COUNT", 1)
    first = open_door(settings, "m", 1)
    with closing(first), pytest.raises(Unavailable, match="is free for m/2"):
        open_door(settings, "m", 2)
    assert door_port(settings, "m", 2) is None
