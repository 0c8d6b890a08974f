"""The node's meter as real processes on a powercap tree of real files."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.spooled import spooled

from steelyard.adapters.power.board import meter_state
from steelyard.bootstrap import Platform
from steelyard.bootstrap.errands import collect
from steelyard.bootstrap.power import energy_account, energy_source
from steelyard.domain.metering import Resource, ResourceEnd, SupplyWindow
from steelyard.domain.model_version import ModelVersion, Signature
from steelyard.settings import Settings
from steelyard_serving.meter import Meter
from steelyard_workflows.booking.metering import Charge, stopwatch

pytestmark = pytest.mark.integration
RANGE = 262_143_328_850
DEADLINE_S = 60.0
# Without NVML, so that a GPU of the test machine does not join in.
COMMAND = (
    sys.executable, "-c",
    "import sys; sys.modules['pynvml'] = None\n"
    "from steelyard.node_meter import main\n"
    "sys.exit(main())",
)  # fmt: skip


@dataclass
class Tree:
    """A powercap tree with one package that counts when told to."""

    root: Path
    counted_uj: int = 0

    def __post_init__(self) -> None:
        self.zone = self.root / "intel-rapl:0"
        self.zone.mkdir(parents=True)
        (self.zone / "name").write_text("package-0\n")
        (self.zone / "max_energy_range_uj").write_text(f"{RANGE}\n")
        self.show()

    def count(self, energy_uj: int) -> None:
        """Draw so much energy. The counter starts near its range, so it soon wraps."""
        self.counted_uj += energy_uj
        self.show()

    def show(self) -> None:
        """Replaced as a whole: a reader never sees half a number."""
        partial = self.zone / "partial"
        partial.write_text(f"{(RANGE - 5_000_000 + self.counted_uj) % RANGE}\n")
        partial.replace(self.zone / "energy_uj")


@dataclass
class Meters:
    """Starts meters, one a home, and ends those that are left."""

    tree: Tree
    homes: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def settings(self, home: str) -> Settings:
        """A platform of its own on the same node."""
        return Settings(
            home=self.homes / home, powercap_root=str(self.tree.root), power_interval_s=0.4,
            meter_interval_s=1.0, region="DEU",
        )  # fmt: skip

    def start(self, settings: Settings) -> subprocess.Popen[bytes]:
        """A meter of that platform, as its supervisor starts it."""
        environment = {**os.environ, **settings.as_environment()}
        self.running.append(subprocess.Popen(COMMAND, env=environment))
        return self.running[-1]


@pytest.fixture
def meters(tmp_path: Path) -> Iterator[Meters]:
    """Meters on one tree."""
    made = Meters(Tree(tmp_path / "powercap"), tmp_path)
    yield made
    for process in made.running:
        if process.poll() is None:
            process.kill()
        process.wait()


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that other processes do."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.02)


def metering(settings: Settings) -> bool | None:
    """Whether the platform's meter has the node; None when it has not spoken."""
    state = meter_state(settings.power_dir)
    return None if state is None else state.metering


def booked_mj(settings: Settings) -> int:
    """All measured energy in a platform's windows."""
    return sum(window.energy_mj or 0 for window in spooled(settings, SupplyWindow))


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a meter as its supervisor does."""
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == 0


def test_two_meters_on_one_node_book_it_once(meters: Meters) -> None:
    """The second platform waits; together they book what the counter counted (A21)."""
    first, second = meters.settings("one"), meters.settings("two")
    meters.start(first)
    until(lambda: metering(first) is True, "the first meter's start")
    meters.start(second)
    until(lambda: metering(second) is False, "the second meter's waiting")
    assert "another platform" in energy_source(second)
    for _ in range(5):
        meters.tree.count(3_000_000)
    until(lambda: booked_mj(first) >= 15_000, "the booking")
    for process in reversed(meters.running):
        end(process)
    assert (booked_mj(first), booked_mj(second)) == (15_000, 0)
    assert spooled(second, Resource) == []


def test_the_one_that_waits_takes_over(meters: Meters) -> None:
    """A killed meter lets go of the node, and what it had counted is not counted again."""
    first, second = meters.settings("one"), meters.settings("two")
    killed = meters.start(first)
    until(lambda: metering(first) is True, "the first meter's start")
    meters.start(second)
    until(lambda: metering(second) is False, "the second meter's waiting")
    meters.tree.count(4_000_000)
    until(lambda: booked_mj(first) == 4_000, "the first meter's booking")
    killed.kill()
    killed.wait()
    until(lambda: metering(second) is True, "the take-over")
    meters.tree.count(7_000_000)
    until(lambda: booked_mj(second) == 7_000, "the second meter's booking")
    assert booked_mj(first) == 4_000


def burn(meters: Meters, seconds: float) -> None:
    """Compute while the counter runs."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        sum(range(10_000))
        meters.tree.count(10_000)


def registered(settings: Settings) -> list[dict[str, Any]]:
    """What the producers on the node last said."""
    return [json.loads(path.read_text()) for path in settings.power_dir.glob("*.producer")]


def test_a_process_gets_its_share_and_the_node_the_rest(meters: Meters) -> None:
    """What a busy process booked and the node's windows sum to the counter; a sleeper has 0."""
    settings = meters.settings("one")
    process = meters.start(settings)
    until(lambda: metering(settings) is True, "the meter's start")
    with subprocess.Popen(["sleep", "600"]) as asleep:
        sleeper = energy_account(settings, [asleep.pid])
        busy = energy_account(settings, [os.getpid()])
        until(lambda: len(list(settings.power_dir.glob("*.account"))) == 2, "the registration")
        busy.skip()
        burn(meters, 2.0)
        taken, waited = busy.take(2_000_000), sleeper.take(2_000_000)
        booked_uj = sum(one["booked_uj"] for one in registered(settings))
        busy.close()
        sleeper.close()
        asleep.kill()
    until(lambda: not registered(settings), "the end of both")
    end(process)
    assert (taken.method, taken.boundary) == ("counter_cpu", "chip")
    assert taken.energy_mj
    assert waited.energy_mj == 0
    assert booked_uj == taken.energy_mj * 1_000
    assert booked_mj(settings) == (meters.tree.counted_uj - booked_uj) // 1_000
    assert list(settings.power_dir.glob("*")) == []


def test_a_replica_s_windows_carry_its_share(meters: Meters) -> None:
    """Serving reports measured energy with the tier and the boundary of the figure."""
    settings = meters.settings("one")
    process = meters.start(settings)
    until(lambda: metering(settings) is True, "the meter's start")
    version = ModelVersion(
        "scale", 1, "r", "s", "a", "d" * 64, 1, "fp32", "trained", Signature((), ()), created_us=1
    )
    replica = Meter(settings.model_copy(update={"meter_interval_s": 60.0}), version)
    until(lambda: bool(list(settings.power_dir.glob("*.account"))), "the registration")
    burn(meters, 2.0)
    replica.stop()
    end(process)
    windows = spooled(settings, SupplyWindow)
    window = next(w for w in windows if w.resource_id == replica.resource_id)
    assert window.energy_mj
    assert (window.energy_method, window.energy_boundary) == ("counter_cpu", "chip")


def test_work_is_unknown_where_no_meter_runs(meters: Meters) -> None:
    """No file is left behind, and no figure invented."""
    settings = meters.settings("one")
    account = energy_account(settings, [os.getpid()])
    assert account.take(500_000).energy_mj is None
    account.skip()
    account.close()
    assert not settings.power_dir.exists()
    assert energy_source(settings).startswith("not metered: RAPL (package-0)")


def test_measured_energy_reaches_the_ledger_once(meters: Meters) -> None:
    """A run's share and the node's rest are posted as measured; the node costs no device time."""
    settings = meters.settings("one")
    process = meters.start(settings)
    until(lambda: metering(settings) is True, "the meter's start")
    charge = Charge("run-1", "digits", 1, "generic-vcpu", "vcpu-hour", "DEU")
    with stopwatch(settings, charge, "compress/run-1", is_attempt=True) as watch:
        until(lambda: bool(list(settings.power_dir.glob("*.account"))), "the registration")
        with watch.measure("compress"):
            burn(meters, 2.0)
    until(lambda: not list(settings.power_dir.glob("*.producer")), "the end of the run")
    end(process)
    node = next(r for r in spooled(settings, Resource) if r.kind == "node")
    run = next(w for w in spooled(settings, SupplyWindow) if w.resource_id == "compress/run-1")
    assert (run.energy_method, run.energy_boundary) == ("counter_cpu", "chip")
    assert spooled(settings, ResourceEnd)[-1].inferred is False
    assert booked_mj(settings) == meters.tree.counted_uj // 1_000

    platform = Platform(settings)
    collect(settings)
    amounts = {(b.account.path, b.unit): b.amount for b in platform.ledger.balances()}
    platform.engine.dispose()
    idle = f"idle:{node.resource_id.rpartition('/')[0]}"
    used = sum(n for (path, unit), n in amounts.items() if "run/run-1" in path and unit == "mJ")
    assert amounts[idle, "mJ"] + used == meters.tree.counted_uj // 1_000
    assert used == run.energy_mj
    assert {unit for path, unit in amounts if path == idle} == {"mJ", "ugCO2e_loc"}
