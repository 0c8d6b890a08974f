"""The edge beside a canary that is unreachable or fails."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from steelyard.domain.traffic import Share

from .conftest import Chosen, Client, Versions

pytestmark = pytest.mark.integration
ALL = Share(2, 0, 10_000)
CUT = Versions.CUT


@pytest.fixture(autouse=True)
def well(chosen: Chosen) -> None:
    """Every version answers, and all traffic is the canary's."""
    chosen.versions.open(1, 2)
    chosen.versions.says.clear()
    chosen.versions.asked.clear()
    chosen.route(ALL)


def unreachable(chosen: Chosen, *versions: int) -> None:
    """Their replicas are gone."""
    chosen.versions.close(*versions)


def dying(chosen: Chosen, *versions: int) -> None:
    """Their replicas break off when they are asked."""
    for version in versions:
        chosen.versions.says[version] = CUT


@pytest.mark.parametrize("ill", [unreachable, dying])
def test_a_canary_that_does_not_answer_is_answered_for(
    chosen: Chosen, ill: Callable[..., None]
) -> None:
    """By stable at once, under its own arm, with the bucket and table that chose the canary."""
    ill(chosen, 2)
    status, told = chosen.ask({"x-unit-id": "ada"})
    assert (status, told["version"], told["arm"]) == (200, 1, "fallback")
    assert (told["lineage"], told["generation"]) == ("r1", str(chosen.generation))
    assert told["bucket"] and told["unit"] == "ada"
    assert chosen.versions.asked[-1:] == [1] and chosen.versions.asked.count(2) <= 1


def test_the_id_of_the_prediction_is_the_same(chosen: Chosen) -> None:
    """What the client is told is what stable's replica recorded; the marks stay inside."""
    unreachable(chosen, 2)
    _, headers, _ = Client(chosen.settings).call("POST", "/v2/models/m/infer", b"{}")
    assert headers["x-prediction-id"]
    assert not [name for name in headers if name.startswith("x-steelyard-")]


@pytest.mark.parametrize(("how", "status"), [(520, 500), (400, 400), (503, 503), (504, 504)])
def test_what_the_canary_itself_answers_is_final(chosen: Chosen, how: int, status: int) -> None:
    """Its error is the client's, as any version's; nobody else is asked."""
    chosen.versions.says[2] = how
    assert chosen.ask()[0] == status
    assert chosen.versions.asked == [2]


def test_when_stable_is_away_too_the_canary_is_waited_for(chosen: Chosen) -> None:
    """Nobody is to blame: what comes back within the usual attempts answers under its own arm."""
    unreachable(chosen, 1, 2)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(chosen.ask)
        with pytest.raises(TimeoutError):  # it is waiting
            answer.result(1)
        chosen.versions.open(2)
        status, told = answer.result(30)
    assert (status, told["version"], told["arm"]) == (200, 2, "canary")


def test_a_large_request_to_a_dying_canary_is_refused(chosen: Chosen) -> None:
    """It does not fit into HAProxy's buffer, so that it can only be sent once."""
    dying(chosen, 2)
    status = {"haproxy": 502, "python": 200}[chosen.settings.edge]
    assert chosen.ask(body=b" " * 300_000)[0] == status
    assert chosen.versions.asked[-1] == (2 if status == 502 else 1)


def failing(chosen: Chosen, how: int, count: int, units: int) -> None:
    """So many failures of the canary, by so many units in turn."""
    chosen.versions.says[2] = how
    for number in range(count):
        chosen.ask({"x-unit-id": f"unit {number % units}"})
    chosen.versions.says.clear()


@pytest.mark.parametrize("how", [520, CUT])
def test_ten_failures_in_a_row_give_its_share_to_stable(chosen: Chosen, how: int) -> None:
    """At once and without a controller: errors of its own, or fallbacks; and it is said."""
    failing(chosen, how, 9, units=3)
    assert chosen.ask()[1]["version"] == 2  # one success ends the row
    failing(chosen, how, 9, units=3)
    assert chosen.router.diverted() == frozenset()
    failing(chosen, how, 1, units=1)
    assert chosen.router.diverted() == {("m", 2)}
    for unit in ("unit 0", "somebody else"):
        told = chosen.ask({"x-unit-id": unit})[1]
        assert (told["version"], told["arm"]) == (1, "stable")


def test_a_new_table_starts_anew(chosen: Chosen) -> None:
    """The guard's word is about one version under one generation."""
    failing(chosen, 520, 10, units=3)
    assert chosen.ask()[1]["version"] == 1
    chosen.route(ALL)
    assert chosen.ask()[1]["version"] == 2
    assert chosen.router.diverted() == frozenset()


def test_few_units_do_not_divert_everybody(chosen: Chosen) -> None:
    """Two users who fail a hundred times are two users; requests without a unit are one each."""
    failing(chosen, 520, 100, units=2)
    assert chosen.ask({"x-unit-id": "ada"})[1]["version"] == 2
    chosen.versions.says[2] = 520
    for _ in range(10):
        chosen.ask()
    assert chosen.ask()[1]["version"] == 1


def test_what_the_canary_is_not_to_blame_for_is_neither(chosen: Chosen) -> None:
    """A budget that could not be kept, a client's time that was over: no failure, no success."""
    failing(chosen, 520, 9, units=3)
    failing(chosen, 504, 5, units=3)
    assert chosen.ask({"x-unit-id": "first"}) and chosen.router.diverted() == frozenset()
    failing(chosen, 520, 9, units=3)
    failing(chosen, 503, 5, units=3)
    failing(chosen, 520, 1, units=1)
    assert chosen.ask()[1]["version"] == 1


def test_pinned_requests_count_for_nobody(chosen: Chosen) -> None:
    """Failures of a version that was asked for by number divert nothing."""
    chosen.versions.says[2] = 520
    for number in range(12):
        chosen.ask({"x-unit-id": f"u{number}"}, path="/v2/models/m/versions/2/infer")
    chosen.versions.says.clear()
    assert chosen.ask()[1]["version"] == 2
