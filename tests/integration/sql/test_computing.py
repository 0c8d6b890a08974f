"""What versions computed, how near the peak, and how far their footprints may be off."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from steelyard.adapters.sql.budgets import BudgetStore
from steelyard.adapters.sql.reports import ReportStore
from steelyard.domain.catalog_rows import CoefficientDeclaration
from steelyard.domain.metering import Activity, LedgerPhase, Resource, SupplyWindow, UsageWindow
from steelyard.domain.model_version import ModelVersion, Signature
from steelyard.services import words
from steelyard.services.accounts import ComputeLine
from steelyard.services.economics import PerThousand
from steelyard.services.statements import Statements

from .conftest import Bookkeeping

pytestmark = pytest.mark.integration

HOUR = 3_600_000_000
DAY = 24 * HOUR
START = 20_000 * DAY
TERA = 10**12


class Computing(Bookkeeping):
    """A ledger with its reports."""

    def __init__(self, engine: Engine, spool: Path) -> None:
        super().__init__(engine, spool)
        self.clock.at_us = START + DAY // 2
        reports, budgets = ReportStore(engine), BudgetStore(engine)
        self.statements = Statements(reports, self.ledger, self.catalog, budgets, self.clock)
        self._row = 0

    def work(
        self, flop: int | None, *, datatype: str | None = "bf16", run_id: str | None = None,
        device: str = "gpu", activity: Activity = "train", seconds: int = 1_800,
    ) -> None:  # fmt: skip
        """An hour of two devices in one slot, busy for some seconds: a run's, or version 1's."""
        self._row += 1
        name = f"r/{self._row}"
        phase: LedgerPhase = "training" if run_id else "inference"
        self.facts.ingest(
            [
                Resource(name, "train_worker", device, 2, 1, "gpu-hour", START, "DEU"),
                SupplyWindow(name, "b", 1, name, START, START + HOUR, 2 * HOUR),
                UsageWindow(name, "b", 2, name, START, START + HOUR, "a",
                            None if run_id else 1, phase, activity, run_id,
                            requests=100, items=100, busy_ns=seconds * 10**9, flop=flop,
                            datatype=datatype),
            ],
            START,
        )  # fmt: skip
        self.books.post()

    def declare(
        self, kind: str, key: str, value: str, low: str | None = None, high: str | None = None
    ) -> None:
        """A coefficient with its ends, from the beginning on."""
        row = CoefficientDeclaration(kind, key, value, "", low, high, None, "test", "CC0-1.0", 0)
        self.clock.at_us += 1
        self.catalog.declare([row], self.clock.at_us)

    def register(self, version: int, run_id: str, parent: int | None = None) -> None:
        """A version that came out of a run."""
        self.catalog.record_version(
            ModelVersion("a", version, run_id, "source", "model.onnx", "d" * 64, 1, "fp32",
                         "finetuned" if parent else "trained", Signature((), ()), 0, parent)
        )  # fmt: skip

    def compute(self, version: int | None) -> list[ComputeLine]:
        """The lines of one version."""
        found = self.statements.model("a").versions
        return [line for v in found if v.version == version for line in v.compute]

    def per_1000(self, measure: str) -> PerThousand:
        """With idle time."""
        return self.statements.model("a").per_1000["allocation"][measure]


@pytest.fixture
def new_computing(
    new_engine: Callable[[], Engine], tmp_path: Path
) -> Iterator[Callable[[], Computing]]:
    """Makes empty ledgers."""
    yield lambda: Computing(new_engine(), tmp_path / "spool")


@pytest.fixture
def books(new_computing: Callable[[], Computing]) -> Computing:
    """One empty ledger."""
    return new_computing()


def test_a_run_is_measured_against_the_dense_peak_of_its_devices(books: Computing) -> None:
    """Two devices of 10 TFLOP/s, busy for half an hour, half used: 50 %."""
    books.declare("peak_flops", "gpu/bf16", str(10 * TERA))
    books.register(1, "r1")
    books.work(1_800 * 10 * TERA, run_id="r1")
    (line,) = books.compute(1)
    assert (line.run_id, line.activity) == ("r1", "train")
    assert (line.device_model, line.datatype) == ("gpu", "bf16")
    assert line.busy_device_us == 2 * 1_800 * 10**6
    assert (line.mfu, line.mfu_unknown) == (0.5, None)
    assert line.peak_flop_per_s == 10 * TERA
    cited = books.catalog.cited([line.peak_coef_id or ""])
    assert cited[0]["key"] == "gpu/bf16"
    assert words.utilisation(line) == "50 %"


def test_each_device_and_datatype_has_a_line_of_its_own(books: Computing) -> None:
    """A version that ran on two devices in two datatypes; a peak holds for one of the pairs."""
    books.declare("peak_flops", "gpu/bf16", str(10 * TERA))
    books.work(1_800 * 4 * TERA, activity="serve")
    books.work(1_800 * 4 * TERA, activity="serve", datatype="int8")
    books.work(1_800 * 4 * TERA, activity="serve", device="cpu", datatype="fp32")
    books.work(1_800 * 4 * TERA, activity="batch")
    found = {(c.activity, c.device_model, c.datatype): c for c in books.compute(1)}
    assert {key: line.mfu for key, line in found.items()} == {
        ("serve", "gpu", "bf16"): 0.2, ("batch", "gpu", "bf16"): 0.2,
        ("serve", "gpu", "int8"): None, ("serve", "cpu", "fp32"): None,
    }  # fmt: skip
    unknown = found["serve", "gpu", "int8"]
    assert words.utilisation(unknown) == "unknown: no peak of gpu/int8 is declared"
    assert books.statements.model("a").serving.flop == 4 * 1_800 * 4 * TERA


@pytest.mark.parametrize(
    ("flop", "datatype", "because"),
    [
        (None, "bf16", "its FLOPs are not known"),
        (10**15, None, "no datatype was measured with it"),
        (10**15, "int64", "int64 has no dense peak"),
        (10**15, "fp32", "no peak of gpu/fp32 is declared"),
    ],
)
def test_an_unknown_utilisation_says_why_and_is_never_nothing(
    books: Computing, flop: int | None, datatype: str | None, because: str
) -> None:
    """Words instead of 0: what would have to be known."""
    books.declare("peak_flops", "gpu/bf16", str(10 * TERA))
    books.work(flop, datatype=datatype, activity="serve")
    (line,) = books.compute(1)
    assert (line.mfu, line.mfu_unknown, line.datatype) == (None, because, datatype)


def test_a_window_without_flops_leaves_its_run_unknown(books: Computing) -> None:
    """Its time counts and its work is missing, so the rest would look slower than it was."""
    books.declare("peak_flops", "gpu/bf16", str(10 * TERA))
    books.work(10**15, run_id="lost")
    books.work(None, run_id="lost")
    (line,) = books.compute(None)
    assert line.flop == 10**15
    assert line.mfu is None
    assert line.mfu_unknown == "1 of 2 windows did not know their FLOPs"


def test_windows_of_ten_to_the_twenty_five_are_told(books: Computing) -> None:
    """Exactly 10^25 in one window is a notice; what stays below together is none."""
    books.register(1, "r1")
    books.work(10**25 - 1, run_id="r1")
    assert words.notices(books.statements.model("a")) == []
    books.register(2, "r2", parent=1)
    books.register(3, "r3", parent=2)
    books.work(1, run_id="r2")
    books.work(0, run_id="r3")
    statement = books.statements.model("a")
    told = words.notices(statement)
    assert [text.split(" ")[0] for text in told] == ["a/2", "a/3"]
    assert "10^25" in told[0]
    assert "Art. 51" in told[0]
    upstream = statement.versions[2].upstream
    assert upstream is not None
    assert (upstream.training_flop, upstream.eu_alert) == (10**25, "reached")


def test_one_window_may_reach_the_threshold_alone(books: Computing) -> None:
    """A number that 64 bits do not hold is summed to the last digit."""
    books.register(1, "r1")
    books.work(10**25, run_id="r1")
    books.work(1, run_id="r1")
    (version,) = books.statements.model("a").versions
    assert version.training.flop == 10**25 + 1
    assert len(words.notices(books.statements.model("a"))) == 1


ENDS = {
    ("device_idle_w", "gpu"): ("100", "50", "150"), ("device_max_w", "gpu"): ("400", "200", "600"),
    ("pue", "DEU"): ("1.2", "1.1", "1.8"), ("grid_ci", "DEU"): ("380.95", "300", "450"),
    ("embodied_kg", "gpu"): ("150", "100", "300"),
    ("lifespan_h", "gpu"): ("35040", "26280", "52560"),
}  # fmt: skip


def test_the_range_by_coefficients_is_what_the_ends_would_have_given(
    new_computing: Callable[[], Computing],
) -> None:
    """A ledger that knows the ends says what two others say that were kept with the ends."""
    found: dict[int, dict[str, PerThousand]] = {}
    for which in range(3):
        books = new_computing()
        for (kind, key), values in ENDS.items():
            # A device that lasts longer costs less carbon an hour.
            value = values[(0, 2, 1)[which] if kind == "lifespan_h" else which]
            books.declare(kind, key, value, *(values[1:] if which == 0 else ()))
        books.work(None, activity="serve", seconds=900)
        names = ("energy_mj", "carbon_ug", "embodied_ug", "cost_nano", "device_us")
        found[which] = {name: books.per_1000(name) for name in names}
    for name in ("energy_mj", "carbon_ug", "embodied_ug"):
        middle = found[0][name]
        assert middle.coefficient_low == pytest.approx(found[1][name].value, rel=1e-6), name
        assert middle.coefficient_high == pytest.approx(found[2][name].value, rel=1e-6), name
        assert found[1][name].coefficient_low is None
        assert (middle.coefficient_low or 0) < (middle.value or 0) < (middle.coefficient_high or 0)
    for name in ("cost_nano", "device_us"):
        assert found[0][name].coefficient_low is None, "no coefficient is in it"


def test_without_an_end_of_each_coefficient_there_is_no_range(books: Computing) -> None:
    """The shipped grids have none: carbon has no range, energy has one."""
    for kind in ("device_idle_w", "device_max_w"):
        books.declare(kind, "gpu", *ENDS[kind, "gpu"])
    books.work(None, activity="serve")
    energy, carbon = books.per_1000("energy_mj"), books.per_1000("carbon_ug")
    assert energy.coefficient_low is not None
    assert (carbon.value is not None, carbon.coefficient_low) == (True, None)
    assert words.per_thousand("energy_mj", energy).endswith(" by coefficients)")
    assert "coefficients" not in words.per_thousand("carbon_ug", carbon)


def test_a_second_device_widens_the_range(books: Computing) -> None:
    """How much each contributed is not asked: the range holds for any share."""
    for kind in ("device_idle_w", "device_max_w"):
        books.declare(kind, "gpu", *ENDS[kind, "gpu"])
        books.declare(kind, "cpu", "10", "9", "20")
    books.work(None, activity="serve")
    alone = books.per_1000("energy_mj")
    books.work(None, activity="serve", device="cpu")
    both = books.per_1000("energy_mj")
    assert (alone.coefficient_low or 0) * 2 == alone.value
    assert (both.coefficient_low or 0) * 2 == both.value
    assert (alone.coefficient_high or 0) * 2 == (alone.value or 0) * 3
    assert both.coefficient_high == (both.value or 0) * 2


def test_what_a_meter_read_does_not_move_with_the_watts(books: Computing) -> None:
    """Metered energy has no range of its own; its carbon moves with grid and building."""
    for (kind, key), values in ENDS.items():
        books.declare(kind, key, *values)
    name = "m/1"
    window = SupplyWindow(name, "b", 1, name, START, START + HOUR, HOUR, energy_mj=9 * 10**8,
                          energy_method="counter_gpu", energy_boundary="chip")  # fmt: skip
    usage = UsageWindow(name, "b", 2, name, START, START + HOUR, "a", 1, "inference", "serve",
                        requests=1_000, busy_ns=HOUR * 1_000)  # fmt: skip
    books.post(Resource(name, "replica", "gpu", 1, 1, "gpu-hour", START, "DEU"), window, usage)
    energy, carbon = books.per_1000("energy_mj"), books.per_1000("carbon_ug")
    assert (energy.value, energy.coefficient_low, energy.coefficient_high) == (
        9 * 10**8,
        None,
        None,
    )
    low = 9 * 10**8 * 1.1 * 300 / 3_600
    assert carbon.coefficient_low == pytest.approx(low, rel=1e-6)
    books.work(None, activity="serve", seconds=3_600)
    mixed = books.per_1000("energy_mj")
    assert mixed.value is not None
    assert mixed.coefficient_low is not None
    total = 9 * 10**8 + 2 * 3_600 * 400 * 1_000
    assert mixed.coefficient_low == pytest.approx(
        mixed.value * (9 * 10**8 + 3_600 * 400 * 1_000) / total, rel=1e-6
    )
