from dataclasses import replace

import pytest

from steelyard.domain.deletion import DAY_US, Obstacle, Uses, obstacles

NOW = 100 * DAY_US
FREE = Uses(roles={3: "stable"}, previous=2, parents={1: None, 2: None, 3: None, 9: None})


def test_a_version_that_nothing_stands_on_may_go() -> None:
    """It never answered, descends to nothing in service, and is not named."""
    assert obstacles(9, FREE, NOW) == ()


@pytest.mark.parametrize(
    ("role", "why"),
    [
        ("stable", "it serves, or is what an open rollout would return to"),
        ("candidate", "it is in an open rollout"),
        ("shadow", "it answers copies of requests, as a shadow"),
    ],
)
def test_a_version_in_service_stays(role: str, why: str) -> None:
    """Until people end what it is there for; no moment can be named."""
    assert obstacles(9, replace(FREE, roles={9: role}), NOW) == (Obstacle(why),)


def test_a_warm_version_stays_until_it_is_cold() -> None:
    """The moment is known."""
    uses = replace(FREE, roles={9: "warm"}, warm_until_us=NOW + 5)
    (found,) = obstacles(9, uses, NOW)
    assert found == Obstacle("it is kept warm for a quick rollback", NOW + 5)


def test_where_a_rollback_would_go_stays() -> None:
    """Also when it has long been cold."""
    assert obstacles(2, FREE, NOW) == (Obstacle("a rollback would return to it"),)


def test_what_a_served_variant_was_made_from_stays() -> None:
    """Parents and their parents: the variant's evidence is a comparison with them."""
    uses = replace(FREE, parents={1: None, 2: None, 3: 8, 8: 9, 9: None, 5: 7, 7: None})
    (found,) = obstacles(9, uses, NOW)
    assert found.why == "version 3 in service was made from it and is measured against it"
    assert obstacles(7, uses, NOW) == ()


def test_a_name_that_somebody_gave_it_keeps_it() -> None:
    """The registry would drop the alias without a word."""
    (found,) = obstacles(9, replace(FREE, aliases=("paper", "best")), NOW)
    assert found.why == "the registry names it best, paper"


def test_it_stays_as_long_as_its_predictions() -> None:
    """They name it; until the last one is past its time, or for ever where no time is set."""
    kept = replace(FREE, last_us=NOW - 10 * DAY_US, retention_days=30)
    assert obstacles(9, kept, NOW) == (
        Obstacle("its predictions are kept for 30 days", NOW + 20 * DAY_US),
    )
    assert obstacles(9, kept, NOW + 20 * DAY_US) == ()
    (for_ever,) = obstacles(9, replace(kept, retention_days=0), NOW)
    assert for_ever.until_us is None and "for ever" in for_ever.why


def test_every_obstacle_is_named_at_once() -> None:
    """One round is enough to see all that has to be done."""
    uses = Uses({2: "warm"}, 2, {2: None}, ("previous",), NOW + 1, NOW, 1)
    assert len(obstacles(2, uses, NOW)) == 4
