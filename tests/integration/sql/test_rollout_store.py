import random
from dataclasses import replace

import pytest
from sqlalchemy import Engine, text

from steelyard.adapters.sql.arms import ArmStore
from steelyard.adapters.sql.facts import FactStore
from steelyard.adapters.sql.labels import LabelStore
from steelyard.adapters.sql.predictions import PredictionStore
from steelyard.adapters.sql.rollouts import RolloutStore
from steelyard.adapters.sql.tables import delivery
from steelyard.domain.analysis import Metric, MetricName
from steelyard.domain.audit import ArmName, PredictionRecord
from steelyard.domain.e_process import Interval
from steelyard.domain.errors import Conflict
from steelyard.domain.facts import Fact
from steelyard.domain.metering import Resource, SupplyWindow, UsageWindow
from steelyard.domain.promotion import Change, Promotion
from steelyard.domain.rollout import Rollout, Stretch
from steelyard.domain.rollout_plan import Plan, Step, default_metrics
from steelyard.domain.rollout_record import Move, Stored
from steelyard.domain.traffic import Route, Share, in_order
from steelyard.domain.unit_spread import Spread

pytestmark = pytest.mark.integration

PLAN = Plan((Step(500, 60.0, 10), Step(10_000)), default_metrics())
CHANGE = Change("ada", "start")


@pytest.fixture
def store(engine: Engine) -> RolloutStore:
    """An empty store."""
    return RolloutStore(engine)


def _rollout(rollout_id: str = "r1", model: str = "m") -> Rollout:
    return Rollout(rollout_id, model, "canary", 1, 2, PLAN, rollout_id, 1_000, "ada")


def _route(weight_bp: int = 500) -> Route:
    return Route("m", 1, 0, in_order([Share(2, 0, weight_bp)]), "r1")


def _moved(
    store: RolloutStore, before: Stored, after: Rollout, now_us: int, token: int | None = None
) -> Stored:
    """The rollout with a table of its own weight."""
    (stored,) = store.move(
        [Move(before, after, CHANGE)], now_us, seen=[before], route=_route(after.weight_bp),
        token=token,
    )  # fmt: skip
    return stored


def test_a_rollout_comes_back_as_it_was_written(store: RolloutStore) -> None:
    """Plan, steps and metrics included."""
    store.create([(_rollout(), CHANGE)])
    found = store.open_rollout("m")
    assert found is not None and found.rollout == _rollout()


def test_a_model_has_one_open_rollout(store: RolloutStore) -> None:
    """A second one is refused until the first has ended; other models are free."""
    (first,) = store.create([(_rollout(), CHANGE)])
    store.create([(_rollout("r2", "other"), CHANGE)])
    with pytest.raises(Conflict, match="open already"):
        store.create([(_rollout("r3"), CHANGE)])
    ended = replace(first.rollout, condition="degraded", ended_us=2_000)
    store.save(first, ended, Change("ada", "abort"), 2_000)
    store.create([(_rollout("r3"), CHANGE)])
    assert {s.rollout.rollout_id for s in store.rollouts("m")} == {"r1", "r3"}


def test_candidates_are_open_together_in_regions_of_their_own(store: RolloutStore) -> None:
    """Of one group; a third one where there is room, and none of another group or on others."""
    one = replace(_rollout(), max_weight_bp=5_000)
    other = replace(one, rollout_id="r2", candidate=3, offset_bp=5_000, max_weight_bp=2_500)
    store.create([(other, CHANGE), (one, CHANGE)])
    assert [s.rollout for s in store.open_rollouts("m")] == [one, other]
    third = replace(one, rollout_id="r3", candidate=4, offset_bp=7_500, max_weight_bp=2_500)
    for wrong in (
        replace(third, offset_bp=7_000), replace(third, lineage="r3"), replace(third, candidate=3),
        replace(third, stable=9),
    ):  # fmt: skip
        with pytest.raises(Conflict, match="open already"):
            store.create([(wrong, CHANGE)])
    store.create([(third, CHANGE)])
    assert len(store.open_rollouts("m")) == 3


def test_a_table_rests_on_what_was_seen_of_all_candidates(store: RolloutStore) -> None:
    """One of them changed meanwhile, so the table that the other one wants is not written."""
    one = replace(_rollout(), max_weight_bp=5_000)
    other = replace(one, rollout_id="r2", candidate=3, offset_bp=5_000)
    seen = store.create([(one, CHANGE), (other, CHANGE)])
    store.save(seen[1], replace(other, condition="paused"), CHANGE, 2_000)
    after = replace(one, condition="progressing", step=0, weight_bp=250)
    with pytest.raises(Conflict, match="changed meanwhile"):
        store.move([Move(seen[0], after, CHANGE)], 2_001, seen=seen, route=_route(250))
    assert store.route("m") is None


def test_a_table_is_confirmed_from_the_first_time_on(store: RolloutStore) -> None:
    """Seen again after a restart, or within a later one: what bakes does not begin anew."""
    token = store.leases.acquire("controller", "one", 1_000, 10_000)
    assert token is not None
    (stored,) = store.create([(_rollout(), CHANGE)])
    after = replace(stored.rollout, condition="progressing", step=0, weight_bp=500)
    stored = _moved(store, stored, after, 2_000)
    store.confirm("m", 1, 2_100, token)
    store.confirm("m", 1, 2_900, token)
    assert store.open_rollouts("m")[0].rollout.confirmed_us == 2_100


def test_a_rollout_begins_beside_what_has_all_traffic(store: RolloutStore) -> None:
    """Another one came to its end while somebody still looked at the gates of the next."""
    (stored,) = store.create([(_rollout(), CHANGE)])
    whole = replace(stored.rollout, condition="promoting", step=1, weight_bp=10_000)
    stored = _moved(store, stored, whole, 2_000)
    healthy = replace(stored.rollout, condition="healthy", ended_us=3_000)
    store.move([Move(stored, healthy, CHANGE)], 3_000, seen=[stored], route=Route("m", 2, 0))
    late = replace(_rollout("r2"), candidate=3)
    with pytest.raises(Conflict, match="stable is version 2 now"):
        store.create([(late, CHANGE)])
    assert store.open_rollouts("m") == []
    store.create([(replace(late, stable=2), CHANGE)])


def test_two_writers_do_not_overwrite_each_other(store: RolloutStore) -> None:
    """Whoever read first and writes last is told to look again."""
    (stored,) = store.create([(_rollout(), CHANGE)])
    paused = replace(stored.rollout, condition="paused")
    store.save(stored, paused, Change("ada", "pause"), 2_000)
    with pytest.raises(Conflict, match="changed meanwhile"):
        _moved(store, stored, paused, 2_001)
    with pytest.raises(Conflict, match="changed meanwhile"):
        store.save(stored, paused, Change("bob", "pause"), 2_001)
    assert store.route("m") is None
    assert [e["actor"] for e in store.events("r1")] == ["ada", "ada"]


def test_a_controller_that_lost_its_lease_writes_nothing(store: RolloutStore) -> None:
    """A second controller takes over after the time is up; the first one's number is refused."""
    (stored,) = store.create([(_rollout(), CHANGE)])
    first = store.leases.acquire("controller", "one", 1_000, 100)
    assert store.leases.acquire("controller", "two", 1_050, 100) is None
    assert store.leases.acquire("controller", "one", 1_050, 100) == first
    second = store.leases.acquire("controller", "two", 1_200, 100)
    assert first is not None and second is not None and second > first
    after = replace(stored.rollout, condition="progressing", step=0, weight_bp=500)
    with pytest.raises(Conflict, match="lease"):
        _moved(store, stored, after, 1_201, first)
    with pytest.raises(Conflict, match="lease"):
        store.save(stored, replace(after, reason="x"), CHANGE, 1_201, first)
    with pytest.raises(Conflict, match="lease"):
        store.observations.keep("r1", "errors", {(1, 0): Interval(1, 0, 1, 0)}, 1_201, first)
    with pytest.raises(Conflict, match="lease"):
        store.promote(_promotion("r1", 2), first)
    with pytest.raises(Conflict, match="lease"):
        store.confirm("m", 1, 1_201, first)
    assert store.observations.by_metric("r1") == {} and store.promotions("m") == []
    assert _moved(store, stored, after, 1_202, second).row_version == 2
    store.confirm("m", 1, 1_203, second)
    assert store.open_rollouts("m")[0].rollout.confirmed_us == 1_203


def test_a_lease_from_before_the_clock_was_set_back_keeps_nobody_out(store: RolloutStore) -> None:
    """Its end is an hour away, and whoever held it is gone; a clock that is a bit off is none."""
    first = store.leases.acquire("controller", "one", 1_000_000, 100)
    assert store.leases.acquire("controller", "two", 999_900, 100) is None
    second = store.leases.acquire("controller", "two", 1_000, 100)
    assert first is not None and second is not None and second > first
    assert store.leases.acquire("controller", "one", 1_001, 100) is None


def test_the_number_of_a_weight_table_only_grows(store: RolloutStore) -> None:
    """Going back to an earlier weight is a new table, and a later rollout goes on counting."""
    (stored,) = store.create([(_rollout(), CHANGE)])
    numbers = []
    for weight in (500, 2_500, 500, 0):
        after = replace(stored.rollout, condition="progressing", step=0, weight_bp=weight)
        stored = _moved(store, stored, after, 2_000)
        numbers.append(stored.rollout.generation)
    ended = replace(stored.rollout, condition="degraded", ended_us=3_000)
    store.save(stored, ended, CHANGE, 3_000)
    (later,) = store.create([(_rollout("r2"), CHANGE)])
    after = replace(later.rollout, condition="progressing", step=0, weight_bp=500)
    numbers.append(_moved(store, later, after, 4_000).rollout.generation)
    assert numbers == [1, 2, 3, 4, 5]
    route = store.route("m")
    assert route is not None and (route.generation, route.stable_bp) == (5, 9_500)
    intent = store.intent("m", 2)
    assert intent is not None and intent["weight_bp"] == 2_500


@pytest.mark.parametrize(
    ("canary", "weight_bp", "shares"), [(2, 500, (Share(2, 0, 500),)), (2, 0, ()), (None, 0, ())]
)
def test_a_table_from_before_there_were_shares_is_read(
    store: RolloutStore, engine: Engine, canary: int | None, weight_bp: int,
    shares: tuple[Share, ...],
) -> None:  # fmt: skip
    """It names one canary, whose buckets begin at 0; the edge goes on with it after an update."""
    row = {"model": "m", "generation": 7, "rollout_id": "r1", "stable": 1, "canary": canary,
           "weight_bp": weight_bp, "lineage": "r1", "step": 0, "created_us": 5}  # fmt: skip
    with engine.begin() as connection:
        connection.execute(delivery.traffic_intent.insert(), row)
    assert store.route("m") == Route("m", 1, 7, shares, "r1")


def test_only_a_change_of_course_is_an_event(store: RolloutStore) -> None:
    """A new reason while baking is not history; a new weight is."""
    (stored,) = store.create([(_rollout(), CHANGE)])
    stored = store.save(stored, replace(stored.rollout, reason="waiting"), CHANGE, 2_000)
    after = replace(stored.rollout, condition="progressing", step=0, weight_bp=500)
    _moved(store, stored, after, 3_000)
    assert [e["to_condition"] for e in store.events("r1")] == ["preparing", "progressing"]


def _promotion(rollout_id: str, version: int) -> Promotion:
    return Promotion(5, "m", "champion", None, version, "ada", "deploy", "", rollout_id, "d" * 64)


def test_a_rollout_is_promoted_once(store: RolloutStore) -> None:
    """Repeating a promotion after a crash adds no second row to the history."""
    for rollout_id, version in (("r1", 1), ("r1", 1), ("r2", 2), ("r1", 1)):
        store.promote(_promotion(rollout_id, version))
    assert [p.to_version for p in store.promotions("m")] == [1, 2]


@pytest.mark.parametrize(
    ("table", "change"), [("rollout_event", "actor = 'eve'"), ("promotion", "to_version = 9")]
)
def test_a_changed_history_is_named(
    store: RolloutStore, engine: Engine, table: str, change: str
) -> None:
    """Events and promotions are chained like entries; the first changed row is named."""
    store.create([(_rollout(), CHANGE)])
    store.create([(_rollout("r2", "other"), CHANGE)])
    store.promote(_promotion("r1", 1))
    store.promote(_promotion("r2", 2))
    assert store.first_break() is None
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"alter table {table} disable trigger user"))
        else:
            connection.execute(text(f"drop trigger {table}_no_update"))
        connection.execute(text(f"update {table} set {change} where seq = 2"))
    found = store.first_break()
    assert found is not None and (found[0], found[1].seq) == (table, 2)


def test_observations_are_kept_as_first_seen(store: RolloutStore) -> None:
    """A closed interval is evidence; a second look with other counts does not move it."""
    store.observations.keep("r1", "errors", {(1, 0): Interval(10, 1, 90, 1)}, 1)
    store.observations.keep(
        "r1", "errors", {(1, 0): Interval(99, 9, 9, 9), (1, 60): Interval(1, 0, 9, 0)}, 2
    )
    assert store.observations.by_metric("r1") == {
        "errors": [Interval(10, 1, 90, 1), Interval(1, 0, 9, 0)]
    }  # fmt: skip
    assert store.observations.newest_start("r1", "errors") == 60
    assert store.observations.newest_start("r1", "labels") is None


def _predictions(count: int) -> list[PredictionRecord]:
    dice = random.Random(3)
    arms: list[ArmName] = ["stable", "canary", "pinned"]
    return [
        PredictionRecord(
            f"p-{n}", "m", 2, "d" * 64, "serve/m/2/0", dice.choice(arms),
            dice.choice(["r1", "r1", "old"]), dice.choice([1, 2]), n % 10_000,
            1_000 + 10 * n + dice.randrange(10), dice.randrange(9_000), 1,
            dice.choice([200, 200, 400, 500, 503, 504]),
            classes=(dice.randrange(2),), latency_us=dice.choice([None, 5_000, 90_000]),
            unit_sha256=dice.choice([None, *"abcdefgh"]), cached=dice.choice([0, 0, 1]),
        )
        for n in range(count)
    ]  # fmt: skip


def test_a_label_is_kept_as_first_given(engine: Engine) -> None:
    """Sending labels again is harmless, also with another class."""
    labels = LabelStore(engine)
    FactStore(engine).ingest(_predictions(3), 1)
    assert labels.add([("p-0", [1]), ("p-1", [0])], "ada", 5) == (2, 0)
    assert labels.add([("p-0", [0]), ("p-2", [0])], "ada", 6) == (1, 1)
    found = PredictionStore(engine).prediction("p-0")
    assert found is not None and found["label_classes"] == "[1]"


ORIGIN, LENGTH = 1_100, 700
SLOW = Metric("latency", slo_ms=50)


def _stretch(start: int = ORIGIN, end: int = ORIGIN + 5 * LENGTH) -> Stretch:
    return Stretch("m", 2, 1, "r1", ORIGIN, LENGTH, start, end)


def _seen(engine: Engine) -> tuple[ArmStore, list[PredictionRecord], set[str]]:
    """Predictions in the ledger, 250 of them with the label 0, which is right for class 0."""
    records = _predictions(400)
    FactStore(engine).ingest(records, 1)
    labelled = {r.prediction_id for r in records[:250]}
    LabelStore(engine).add([(one, [0]) for one in labelled], "ada", 5)
    return ArmStore(engine), records, labelled


def _counting(record: PredictionRecord) -> bool:
    """Whether an answer says something of the rollout."""
    ours = record.lineage == "r1" and record.arm != "pinned" and not record.cached
    return ours and ORIGIN <= record.received_us < ORIGIN + 5 * LENGTH


def _events(
    metric: MetricName, records: list[PredictionRecord], labelled: set[str]
) -> list[tuple[PredictionRecord, bool]]:
    """Every answer that counts for a metric, in order, and whether it is an event."""
    ours = [r for r in records if _counting(r)]
    if metric == "errors":
        return [(r, r.status == 500) for r in ours]
    if metric == "latency":
        return [(r, r.latency_us > 50_000) for r in ours if r.latency_us is not None]
    return [(r, r.classes != (0,)) for r in ours if r.prediction_id in labelled]


@pytest.mark.parametrize("metric", [Metric("errors"), SLOW, Metric("labels")], ids=lambda m: m.name)
def test_intervals_count_a_unit_until_its_first_event(engine: Engine, metric: Metric) -> None:
    """SQL groups as a plain count does: both arms, this rollout only, nothing from the cache."""
    arms, records, labelled = _seen(engine)
    happened: dict[str, int] = {}
    units: dict[tuple[int, int, str], tuple[set[str], set[str]]] = {}
    for record, event in _events(metric.name, records, labelled):
        unit = record.unit_sha256 or record.prediction_id
        start = ORIGIN + (record.received_us - ORIGIN) // LENGTH * LENGTH
        if happened.get(unit, start) < start:
            continue
        active, hit = units.setdefault((record.generation, start, record.arm), (set(), set()))
        active.add(unit)
        if event and unit not in happened:
            happened[unit] = start
            hit.add(unit)
    expected = {
        key[:2]: Interval(*(
            len(side) for arm in ("canary", "stable")
            for side in units.get((*key[:2], arm), (set(), set()))
        ))
        for key in units
    }  # fmt: skip
    assert arms.intervals(metric, _stretch()).found == expected
    later = {key: row for key, row in expected.items() if key[1] >= ORIGIN + 2 * LENGTH}
    assert arms.intervals(metric, _stretch(ORIGIN + 2 * LENGTH)).found == later
    before = arms.intervals(metric, _stretch(ORIGIN, ORIGIN + 2 * LENGTH))
    assert arms.intervals(metric, _stretch(ORIGIN + 2 * LENGTH), before.had).found == later


def test_what_devices_worked_is_summed(engine: Engine) -> None:
    """Requests and microseconds of device time of both arms, one row an interval and table."""
    arms, records, _ = _seen(engine)
    expected: dict[tuple[int, int], list[int]] = {}
    for r in filter(_counting, records):
        start = ORIGIN + (r.received_us - ORIGIN) // LENGTH * LENGTH
        cell = expected.setdefault((r.generation, start), [0, 0, 0, 0])
        side = 0 if r.arm == "canary" else 2
        cell[side] += 1
        cell[side + 1] += r.busy_ns // 1_000
    found = arms.intervals(Metric("cost"), _stretch()).found
    assert found == {key: Interval(*cell) for key, cell in expected.items()}


@pytest.mark.parametrize("metric", [Metric("errors"), Metric("labels")], ids=lambda m: m.name)
def test_the_spread_over_units_is_that_of_plain_sums(engine: Engine, metric: Metric) -> None:
    """Requests and events of each unit and arm, and the sums of their products."""
    arms, records, labelled = _seen(engine)
    counts: dict[tuple[str, str], list[int]] = {}
    for record, event in _events(metric.name, records, labelled):
        key = (record.arm, record.unit_sha256 or record.prediction_id)
        count = counts.setdefault(key, [0, 0])
        count[0] += 1
        count[1] += event
    expected = tuple(
        Spread(*map(sum, zip(*(
            (n, x, x * x, x * n, n * n) for (arm, _), (n, x) in counts.items() if arm == side
        ), strict=True)))
        for side in ("canary", "stable")
    )  # fmt: skip
    assert arms.spread(metric, _stretch()) == expected


def test_the_guard_sees_how_many_of_the_newest_answers_failed(engine: Engine) -> None:
    """The row of failures ends at the newest good one, of whatever arm the others are."""
    arms = ArmStore(engine)
    answers: list[tuple[ArmName, list[int], int]] = [
        ("canary", [200, 500, 200, 500, 500, 500], 0), ("stable", [200, 500], 100)
    ]  # fmt: skip
    FactStore(engine).ingest(
        [
            PredictionRecord(
                f"p-{n}", "m", 2, "d" * 64, "r", arm, "r1", 1, n, ORIGIN + n, 5, 1, status,
                unit_sha256="ann" if n < 5 else None,
            )
            for arm, statuses, first in answers
            for n, status in enumerate(statuses, first)
        ],
        1,
    )  # fmt: skip
    whole = _stretch(ORIGIN, ORIGIN + LENGTH)
    assert arms.failures_in_a_row(whole) == (3, 2)
    for other in (replace(whole, lineage="old"), replace(whole, candidate=3)):
        assert arms.failures_in_a_row(other) == (0, 0)


def test_what_the_shadow_answered_is_compared_with_the_live_answer(engine: Engine) -> None:
    """Pairs in which both answered, by the time and weight table of the live one."""
    pairs = [(200, 200, 0), (200, 200, 1), (200, 200, 1), (500, 200, 1), (200, 500, 1)]
    arms: dict[str, ArmName] = {"live": "stable", "shadow": "shadow"}
    records = [
        PredictionRecord(
            f"{name}-{n}", "m", version, "d" * 64, "r", arms[name], "r1", 3, n, at, 5, 1, status,
            classes=classes, shadows=f"live-{n}" if name == "shadow" else None,
        )
        for n, (live, shadow, other) in enumerate(pairs)
        for name, version, at, status, classes in (
            ("live", 1, ORIGIN + n, live, (0,)),
            ("shadow", 2, ORIGIN + 2 * LENGTH, shadow, (other,)),
        )
    ]  # fmt: skip
    FactStore(engine).ingest(records, 1)
    found = ArmStore(engine).intervals(Metric("disagreement", limit=0.1), _stretch()).found
    assert found == {(3, ORIGIN): Interval(3, 2, 0, 0)}


def test_the_energy_of_both_versions_is_compared(engine: Engine) -> None:
    """Requests and millijoules of the replicas' windows; where none was measured none counts."""
    facts: list[Fact] = []
    for version, energy in ((1, 40), (2, 90), (3, 7)):
        name = f"serve/m/{version}/0"
        facts.append(Resource(name, "replica", "generic-vcpu", 1, 1, "vcpu-hour", ORIGIN, "DEU"))
        for n in range(3):
            start = ORIGIN + n * LENGTH // 2
            facts += [
                SupplyWindow(name, "boot", 2 * n, name, start, start + LENGTH // 2, LENGTH // 2,
                             energy_mj=energy + n if n else None,
                             energy_method="counter_cpu" if n else "unknown"),
                UsageWindow(name, "boot", 2 * n + 1, name, start, start + LENGTH // 2, "m", version,
                            "inference", "serve", requests=10 * version),
            ]  # fmt: skip
    FactStore(engine).ingest(facts, 1)
    assert ArmStore(engine).intervals(Metric("energy"), _stretch()).found == {
        (0, ORIGIN): Interval(20, 91, 10, 41), (0, ORIGIN + LENGTH): Interval(20, 92, 10, 42)
    }  # fmt: skip
