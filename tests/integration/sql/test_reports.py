from collections.abc import Iterator
from datetime import date, timedelta
from fractions import Fraction
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from steelyard.adapters.sql.budgets import BudgetStore
from steelyard.adapters.sql.reports import ReportStore
from steelyard.domain.errors import InvalidInput, NotFound
from steelyard.domain.facts import Fact
from steelyard.domain.measures import Measures, measures
from steelyard.domain.metering import BootEnd, Resource, SupplyWindow, UsageWindow
from steelyard.domain.model_version import ModelVersion, Signature
from steelyard.domain.span import Span, day_number, day_of
from steelyard.services.budgets import Budgets
from steelyard.services.outlooks import Outlooks, Scope
from steelyard.services.statements import Statements

from .conftest import Bookkeeping

pytestmark = pytest.mark.integration

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
START = 20_000
"""A day in 2024, a Friday; the histories of these tests begin on it."""


class Reporting(Bookkeeping):
    """A ledger with everything that answers questions about it."""

    def __init__(self, engine: Engine, spool: Path) -> None:
        super().__init__(engine, spool)
        self.engine = engine
        self.reports, store = ReportStore(engine), BudgetStore(engine)
        self.statements = Statements(self.reports, self.ledger, self.catalog, store, self.clock)
        self.outlooks = Outlooks(self.reports, store, self.clock)
        self.budgets = Budgets(store, self.outlooks, self.clock)

    def serve(self, day: int, model: str, version: int, seconds: int, requests: int = 100) -> None:
        """Half an hour reserved on a day, ``seconds`` of it busy, on a replica of its own."""
        name = f"serve/{model}/{version}/0"
        start = day * DAY
        self.facts.ingest(
            [
                Resource(name, "replica", "gpu", 1, 1, "gpu-hour", 0, "DEU"),
                SupplyWindow(name, "b", 2 * day + 1, name, start, start + HOUR // 2, HOUR // 2),
                UsageWindow(name, "b", 2 * day + 2, name, start, start + HOUR // 2, model, version,
                            "inference", "serve", requests=requests, items=requests,
                            busy_ns=seconds * 10**9, flop=10**20),
            ],
            start,
        )  # fmt: skip

    def train(self, day: int, model: str, run_id: str, seconds: int) -> None:
        """An hour of a training worker, ``seconds`` of it busy."""
        name, start = f"train/{run_id}/0", day * DAY
        self.facts.ingest(
            [
                Resource(name, "train_worker", "gpu", 1, 1, "gpu-hour", 0, "DEU"),
                SupplyWindow(run_id, "b", 1, name, start, start + HOUR, HOUR),
                UsageWindow(run_id, "b", 2, name, start, start + HOUR, model, None, "training",
                            "train", run_id, 1, busy_ns=seconds * 10**9, flop=10**24),
            ],
            start,
        )  # fmt: skip

    def register(self, model: str, version: int, run_id: str, parent: int | None = None) -> None:
        """A version that came out of a run."""
        relation = "quantized" if parent else "trained"
        variant = "int8" if parent else "full"
        self.catalog.record_version(
            ModelVersion(model, version, run_id, "source", "model.onnx", "d" * 64, 1, variant,
                         relation, Signature((), ()), 0, parent)  # type: ignore[arg-type]
        )  # fmt: skip


@pytest.fixture
def books(engine: Engine, tmp_path: Path) -> Iterator[Reporting]:
    """One empty ledger with its reports; the clock stands on noon of the day before ``START``."""
    found = Reporting(engine, tmp_path / "spool")
    found.clock.at_us = START * DAY - DAY // 2
    yield found


def _shared_hour() -> list[Fact]:
    """An hour at $3 of one replica that two models use: a for 600 s, b for 300 s."""
    name, left, right = "serve/shop/0", START * DAY, START * DAY + HOUR
    return [
        Resource(name, "replica", "gpu", 1, 1, "gpu-hour", 0, "DEU"),
        SupplyWindow("p", "boot", 1, name, left, right, HOUR),
        *(
            UsageWindow("p", "boot", n, name, left, right, model, 1, "inference", "serve",
                        requests=10, busy_ns=seconds * 10**9)
            for n, model, seconds in ((2, "a", 600), (3, "b", 300))
        ),
    ]  # fmt: skip


def test_direct_use_and_full_load_of_a_shared_replica_differ_by_its_idle_time(
    books: Reporting,
) -> None:
    """An hour at $3: $0.50 and $0.25 of direct use, $2 and $1 with the idle time (A11)."""
    books.post(*_shared_hour())
    found = {m: books.statements.model(m).bases for m in "ab"}
    direct = [found[m]["usage"].inference.cost_nano for m in "ab"]
    assert direct == [500_000_000, 250_000_000]
    loaded = [found[m]["allocation"].inference.cost_nano for m in "ab"]
    assert loaded == [2_000_000_000, 1_000_000_000]
    assert books.statements.model("a").idle.cost_nano == 1_500_000_000


def test_training_inference_idle_and_overhead_are_the_supply(books: Reporting) -> None:
    """What is nobody's and what the building adds have lines of their own; no unit is lost."""
    books.post(*_shared_hour())
    books.train(START, "c", "r1", 1_800)
    unused = Resource("serve/none/0", "replica", "gpu", 1, 1, "gpu-hour", 0, "DEU")
    books.post(unused, SupplyWindow("q", "boot", 1, "serve/none/0", START * DAY,
                                    START * DAY + HOUR, HOUR))  # fmt: skip
    whole = books.statements.ledger()
    for name in ("device_us", "cost_nano", "energy_mj", "carbon_ug"):
        parts = (whole.training, whole.inference, whole.unowned_idle, whole.overhead)
        total = sum(getattr(part, name) or 0 for part in parts)
        assert total == getattr(whole.supply, name) > 0, name
    assert whole.unowned_idle.cost_nano == 3_000_000_000
    assert whole.overhead.energy_mj
    assert whole.supply.embodied_ug is None
    assert whole.energy_by_tier_share == {"modelled_load": 1.0}
    assert whole.energy_metered_share == 0.0


def test_flops_are_exact_beyond_64_bits(books: Reporting) -> None:
    """The sum of thirty days of 1e20 FLOPs is 3e21 to the last digit."""
    for day in range(START, START + 30):
        books.serve(day, "a", 1, 600)
    books.books.post()
    assert books.statements.model("a").serving.flop == 30 * 10**20
    assert books.statements.ledger().inference.flop == 30 * 10**20


def test_a_span_counts_only_its_days(books: Reporting) -> None:
    """Two days of ten; break-even and the cumulative cost stay about everything."""
    for day in range(START, START + 10):
        books.serve(day, "a", 1, 600)
    books.books.post()
    span = Span(day_of(START + 3), day_of(START + 4))
    two, ten = books.statements.model("a", span), books.statements.model("a")
    assert two.serving.cost_nano == 2 * 500_000_000
    assert ten.serving.cost_nano == 10 * 500_000_000
    assert (two.traffic.requests, ten.traffic.requests) == (200, 1_000)
    assert [p.inference_nano for p in two.series] == [6_000_000_000, 7_500_000_000]
    assert two.requests_so_far == 1_000
    assert two.break_even == ten.break_even
    empty = books.statements.model("a", Span(date(2001, 1, 1), date(2001, 12, 31)))
    assert empty.serving == Measures()
    assert empty.completeness.share is None


@pytest.mark.parametrize("days", [(0, 89), (3, 70), (10, 12), (30, 57), (31, 90), (58, 60)])
def test_months_and_the_days_around_them_are_the_days(
    books: Reporting, days: tuple[int, int]
) -> None:
    """Whole months, part of one, and both: a span counts each of its days once."""
    first = day_number(date(2024, 1, 31))
    for n in range(0, 100, 3):
        books.serve(first + n, "a", 1 + n % 2, 600, requests=1 + n)
    books.post(*_shared_hour())
    span = (first + days[0], first + days[1])
    counted = [n for n in range(0, 100, 3) if days[0] <= n <= days[1]]
    mine = [one for one in books.reports.amounts(["a"], span) if one.role == "consumer"]
    whole = [one for one in books.reports.amounts(days=span) if one.unit == "nUSD"]
    assert {one.amount for one in mine if one.unit == "nUSD"} == {500_000_000 * len(counted)} - {0}
    assert sum(one.amount for one in whole) == 0
    used = books.reports.used(["a"], span).get("a", [])
    assert sum(one.requests for one in used) == sum(1 + n for n in counted)
    assert books.reports.flops(["a"], span).get(("a", "inference")) == 10**20 * len(counted)
    by_version = books.reports.by_version("a", span)
    assert measures(by_version) == measures(books.reports.amounts(["a"], span))


def test_reports_read_roll_ups_and_neither_windows_nor_entries(books: Reporting) -> None:
    """However long the history, no statement, forecast or budget scans it."""
    for day in range(START, START + 5):
        books.serve(day, "a", 1, 600)
    books.books.post()
    books.clock.at_us = (START + 5) * DAY + 1
    books.budgets.assign("a", "shop")
    scope = Scope("team", "shop")
    books.budgets.set(scope, "cost_nano", "year", 10**12, 8_000, "ada")
    asked: list[str] = []
    event.listen(books.engine, "before_cursor_execute",
                 lambda c, cursor, statement, *rest: asked.append(statement.lower()))  # fmt: skip
    books.statements.model("a")
    books.statements.model("a", Span(day_of(START), day_of(START + 1)))
    books.statements.ledger()
    books.statements.briefs()
    books.outlooks.forecast(scope)
    books.budgets.lines()
    whole = [text for text in asked if "order by entry.seq desc" not in text]  # the head
    for table in ("entry", "usage_window", "supply_window", "batch"):
        assert not [text for text in whole if f"from {table}" in text or f"join {table}" in text]


def test_a_versions_ancestors_are_counted_once_beside_its_own_training(books: Reporting) -> None:
    """Version 3 stands on 2 and 1: their training is upstream, its own stays its own (A22)."""
    for n, seconds in ((1, 3_000), (2, 300), (3, 30)):
        books.train(START + n, "a", f"r{n}", seconds)
        books.register("a", n, f"r{n}", n - 1 or None)
    books.books.post()
    statement = books.statements.model("a")
    own = {v.version: v.training for v in statement.versions}
    third = statement.versions[2]
    assert third.upstream is not None
    assert third.upstream.ancestors == ("a/1", "a/2")
    assert third.upstream.training.cost_nano == 6_000_000_000
    assert own[3].cost_nano == 3_000_000_000
    assert third.upstream.training_flop == 3 * 10**24
    assert third.upstream.eu_alert == "below"
    assert third.upstream.training.embodied_ug is None


def test_flops_of_a_run_without_a_version_stand_in_a_line_of_their_own(books: Reporting) -> None:
    """What versions and version-less runs computed is the model's total, counted once."""
    books.train(START, "a", "r1", 600)
    books.train(START, "a", "lost", 600)
    books.register("a", 1, "r1")
    books.books.post()
    statement = books.statements.model("a")
    assert {v.version: v.training.flop for v in statement.versions} == {1: 10**24, None: 10**24}
    assert statement.training.flop == 2 * 10**24
    assert statement.training_runs == 2
    assert statement.per_training_run.cost_nano == 3_000_000_000


def _side_by_side(books: Reporting, days: range, first: int, second: int) -> None:
    """So many seconds of a/1 and of a/2 on each of the days, and the morning after the last."""
    for day in days:
        books.serve(day, "a", 1, first)
        books.serve(day, "a", 2, second)
    books.books.post()
    books.clock.at_us = days.stop * DAY


def test_a_variant_pays_itself_back_over_paired_days(books: Reporting) -> None:
    """Twenty days side by side: an interval and a verdict; three days: not proven, a point."""
    books.train(START, "a", "r1", 3_600)
    books.train(START, "a", "r2", 3_600)
    books.register("a", 1, "r1")
    books.register("a", 2, "r2", 1)
    _side_by_side(books, range(START, START + 3), 600, 300)
    early = books.statements.model("a").versions[1].pay_back
    assert early is not None
    assert (early.verdict, early.point_estimate, early.paired_days) == ("not_proven", True, 3)
    assert early.requests == 1_200  # $3 of making over $0.0025 a request
    assert early.requests_low is None
    _side_by_side(books, range(START + 3, START + 20), 600, 300)
    found = books.statements.model("a").versions[1].pay_back
    assert found is not None
    assert (found.verdict, found.point_estimate, found.paired_days) == ("pays", False, 20)
    assert (found.requests_low, found.requests, found.requests_high) == (1_200, 1_200, 1_200)
    assert found.days == 12.0
    assert found.saving_per_1000 == 2_500_000_000
    assert found.saving_per_1000_low == found.saving_per_1000_high == 2_500_000_000
    line = books.statements.model("a").versions[1]
    energy, carbon = line.pay_back_energy, line.pay_back_carbon
    assert energy is not None and carbon is not None and line.training.energy_mj == 1_440_000_000
    assert (energy.verdict, energy.requests, energy.saving_per_1000) == ("pays", 1_200, 1.2e9)
    assert (carbon.verdict, carbon.requests, carbon.days) == ("pays", 1_200, 12.0)


def test_a_variant_that_is_not_cheaper_never_pays(books: Reporting) -> None:
    """Infinite is said, not a large number."""
    books.train(START, "a", "r2", 3_600)
    books.register("a", 1, "r1")
    books.register("a", 2, "r2", 1)
    _side_by_side(books, range(START, START + 15), 300, 600)
    found = books.statements.model("a").versions[1].pay_back
    assert found is not None
    assert (found.verdict, found.requests, found.point_estimate) == ("never", None, False)


def test_unit_costs_and_break_even_come_with_interval_and_date(books: Reporting) -> None:
    """Twenty equal days: $15 per 1,000 requests, an interval of nothing, and the day it crosses."""
    books.train(START, "a", "r1", 3_600)
    books.register("a", 1, "r1")
    for day in range(START, START + 20):
        books.serve(day, "a", 1, 600, requests=50)
    books.books.post()
    books.clock.at_us = (START + 20) * DAY
    statement = books.statements.model("a")
    direct, loaded = (statement.per_1000[b]["cost_nano"] for b in ("usage", "allocation"))
    assert (direct.low, direct.value, direct.high) == (10 * 10**9,) * 3
    assert (loaded.value, loaded.days) == (30 * 10**9, 20)
    assert statement.per_1000["usage"]["embodied_ug"].value is None
    full = statement.break_even_outlook["allocation"]
    assert (full.requests, full.requests_per_day) == (100, 50.0)
    assert full.crossed_on == day_of(START + 1)
    direct_use = statement.break_even_outlook["usage"]
    assert (direct_use.requests, direct_use.first_whole_day) == (300, 6)
    assert direct_use.crossed_on == day_of(START + 5)


def test_the_month_quarter_and_year_are_forecast_from_the_same_weekdays(books: Reporting) -> None:
    """Twelve weeks of 100 to 140 and a quiet weekend repeat without any error: band 0 (A24)."""
    pattern = (100, 110, 120, 130, 140, 60, 40)
    first = 20_030  # twelve weeks later it is the end of January
    for n in range(12 * 7):
        books.serve(first + n, "a", 1, pattern[n % 7])
    books.books.post()
    books.clock.at_us = (first + 84) * DAY + 1
    present = books.outlooks.present()
    month, quarter, year = books.outlooks.forecast(Scope("model", "a"), measures=("cost_nano",))
    rest = (month.last_day - present).days + 1
    assert month.expected == (month.spent or 0) + rest * 1_500_000_000
    assert (month.low, month.high, month.missing_days) == (month.expected, month.expected, 0)
    assert month.coverage is not None
    assert year.expected is not None
    assert (year.low, year.missing_weeks > 0) == (None, True)
    everything = books.outlooks.forecast(Scope(), measures=("cost_nano",))
    assert everything == [month, quarter, year]  # whatever was supplied was this model's
    grown = books.outlooks.forecast(Scope("model", "a"), Fraction(1, 10), ("cost_nano",))
    assert (grown[0].expected or 0) > month.expected
    assert quarter.last_day >= month.last_day


def test_without_four_weeks_there_is_no_forecast_but_what_is_missing(books: Reporting) -> None:
    """Ten days of history: eighteen more are needed; energy without any tier is unknown."""
    for n in range(10):
        books.serve(START + n, "a", 1, 600)
    books.books.post()
    books.clock.at_us = (START + 10) * DAY
    month = books.outlooks.forecast(Scope("model", "a"))[0]
    assert (month.expected, month.low, month.coverage) == (None, None, None)
    assert month.missing_days == 18
    assert month.unknown_days == 0
    with pytest.raises(NotFound, match="no team 'nobody'"):
        books.outlooks.forecast(Scope("team", "nobody"))


def test_a_budget_warns_before_it_is_exceeded(books: Reporting) -> None:
    """$15 were spent this month: what that is depends on the limit; the newest limit counts."""
    first = 20_028  # the first day of a month
    for n in range(10):
        books.serve(first + n, "a", 1, 600)
    books.books.post()
    books.clock.at_us = (first + 9) * DAY + DAY // 2
    scope = Scope("model", "a")
    states = []
    for dollars in (100, 18, 14):
        books.clock.at_us += 1
        limit = dollars * 10**9
        states.append(books.budgets.set(scope, "cost_nano", "month", limit, 8_000, "ada"))
    assert [line.spent for line in states] == [15 * 10**9] * 3
    assert [line.state for line in states] == ["ok", "warn", "exceeded"]
    assert "no forecast" in states[0].reasons[0]
    assert books.budgets.lines() == [states[-1]]
    assert books.budgets.lines(Scope("model", "b")) == []
    with pytest.raises(InvalidInput):
        books.budgets.set(scope, "cost_nano", "week", 1, 8_000, "ada")
    with pytest.raises(NotFound):
        books.budgets.set(Scope("model", "b"), "cost_nano", "month", 1, 8_000, "ada")


def test_a_withdrawn_limit_counts_no_more_until_there_is_a_new_one(books: Reporting) -> None:
    """Only the one that was meant; it stays on record, and cannot be withdrawn twice."""
    books.serve(20_028, "a", 1, 600)
    books.books.post()
    scope = Scope("model", "a")
    month, year = [
        books.budgets.set(scope, "cost_nano", period, 10**12, 8_000, "ada")
        for period in ("month", "year")
    ]
    books.clock.at_us += 1
    gone = books.budgets.withdraw(scope, "cost_nano", "month", "bob")
    assert (gone.kind, gone.amount, gone.created_by) == ("withdrawal", month.limit, "bob")
    assert [line.period for line in books.budgets.lines()] == [year.period]
    with pytest.raises(NotFound, match="No limit of cost counts for the model 'a' and a month"):
        books.budgets.withdraw(scope, "cost_nano", "month", "bob")
    with pytest.raises(NotFound):
        books.budgets.withdraw(scope, "energy_mj", "year", "bob")
    with pytest.raises(InvalidInput):
        books.budgets.withdraw(scope, "cost_nano", "week", "bob")
    books.clock.at_us += 1
    books.budgets.set(scope, "cost_nano", "month", 2 * 10**12, 8_000, "ada")
    assert [line.limit for line in books.budgets.lines()] == [2 * 10**12, 10**12]


def test_a_team_pays_for_a_model_while_it_owns_it(books: Reporting) -> None:
    """Handed over after six days of ten: six are the first team's, four the second one's."""
    for n in range(10):
        books.serve(START + n, "a", 1, 600)
    books.books.post()
    books.clock.at_us = (START + 10) * DAY
    books.budgets.assign("a", "shop")
    books.clock.at_us += 1
    books.budgets.assign("a", "ads", day_of(START + 6))
    teams = {t.team: t for t in books.statements.ledger().teams}
    cost = {name: team.inference.cost_nano for name, team in teams.items()}
    assert cost == {"shop": 6 * 1_500_000_000, "ads": 4 * 1_500_000_000}
    assert teams["shop"].inference.flop == 6 * 10**20
    assert books.statements.model("a").team == "ads"
    last_week = Span(day_of(START + 3), day_of(START + 5))
    assert [t.team for t in books.statements.ledger(last_week).teams] == ["shop"]
    assert books.outlooks.forecast(Scope("team", "ads"))[0].missing_days == 24
    with pytest.raises(InvalidInput):
        books.budgets.assign("a", "No Team")


def test_completeness_stands_beside_the_figures(books: Reporting) -> None:
    """Four rows were numbered and two came; a span without that producer expects none."""
    books.serve(0, "a", 1, 600)
    assert books.statements.model("a").completeness.open_boots == 1
    books.facts.ingest([BootEnd("serve/a/1/0", "b", 4, HOUR)], DAY)
    found = books.statements.model("a").completeness
    assert (found.received, found.expected, found.boots, found.open_boots) == (2, 4, 1, 0)
    assert found.share == 0.5
    assert books.statements.model("a", Span(day_of(1), day_of(2))).completeness.expected == 0


def test_entries_are_listed_by_model_and_number(books: Reporting) -> None:
    """The newest first cut, then in order, with batch and reason; or from a number on."""
    books.serve(START, "a", 1, 600)
    books.serve(START, "b", 1, 600)
    books.books.post()
    every = books.reports.entries(limit=1_000)
    assert [e["seq"] for e in every] == list(range(1, len(every) + 1))
    mine = books.reports.entries("a")
    assert mine
    assert all("a/1" in e["debit"] + e["credit"] for e in mine)
    assert [e["seq"] for e in books.reports.entries(limit=2)] == [len(every) - 1, len(every)]
    assert [e["seq"] for e in books.reports.entries(since_seq=3, limit=2)] == [3, 4]
    assert every[0]["reason"] == "measured windows"
    assert books.reports.hash_of(1) == every[0]["hash"]
    assert books.reports.hash_of(10**6) is None


def test_what_was_not_metered_says_by_which_method_it_was_found(books: Reporting) -> None:
    """Half an hour under a meter and half by the load model: shares add up to 1."""
    name, left = "serve/a/1/0", START * DAY
    half = HOUR // 2
    books.post(
        Resource(name, "replica", "gpu", 1, 1, "gpu-hour", 0, "DEU"),
        SupplyWindow(name, "b", 1, name, left, left + half, half, energy_mj=10**8,
                     energy_method="counter_gpu", energy_boundary="chip"),
        UsageWindow(name, "b", 2, name, left, left + half, "a", 1, "inference", "serve",
                    requests=1, busy_ns=600 * 10**9),
        SupplyWindow(name, "b", 3, name, left + half, left + HOUR, half),
    )  # fmt: skip
    statement = books.statements.model("a")
    assert statement.energy_by_tier_mj == {"counter_gpu": 10**8, "modelled_load": 180_000_000}
    assert statement.energy_metered_share == pytest.approx(10 / 28)
    assert statement.energy_estimated is False
    assert sum(statement.energy_by_tier_share.values()) == pytest.approx(1)


def test_unknown_training_has_no_break_even(books: Reporting) -> None:
    """A model that was trained elsewhere: its break-even is unknown, not reached at once."""
    for n in range(3):
        books.serve(START + n, "a", 1, 600)
    books.books.post()
    books.clock.at_us = (START + 3) * DAY + int(timedelta(hours=1).total_seconds()) * SECOND
    statement = books.statements.model("a")
    assert statement.break_even["allocation"].requests is None
    assert statement.break_even["allocation"].crossed is False
    assert statement.break_even_outlook["allocation"].requests is None
