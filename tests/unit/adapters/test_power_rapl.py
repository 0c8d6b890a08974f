"""Processors' counters, from real files laid out as the kernel lays them out."""

from pathlib import Path

import pytest

from steelyard.adapters.power.rapl import RaplMeter
from steelyard.domain.power import Counter

RANGE = 262_143_328_850


def zone(folder: Path, name: str, energy_uj: int, range_uj: int | None = RANGE) -> Path:
    """One powercap zone."""
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    if range_uj is not None:
        (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """Two packages with cores, graphics and memory, the board's counter, and the second way in."""
    (tmp_path / "intel-rapl").mkdir()
    for number in (0, 1):
        package = zone(tmp_path / f"intel-rapl:{number}", f"package-{number}", 1000 + number)
        zone(package / f"intel-rapl:{number}:0", "core", 700)
        zone(package / f"intel-rapl:{number}:1", "uncore", 100)
        zone(package / f"intel-rapl:{number}:2", "dram", 50 + number, 65_712_999_613)
        # /sys/class/powercap lists the parts beside their packages once more.
        (tmp_path / f"intel-rapl:{number}:2").symlink_to(package / f"intel-rapl:{number}:2")
    zone(tmp_path / "intel-rapl:2", "psys", 5_000)
    zone(tmp_path / "intel-rapl-mmio:0", "package-0", 1000)
    return tmp_path


def test_packages_and_their_memory_count_once(server: Path) -> None:
    """Cores and graphics are inside their package, the board holds it, MMIO repeats it."""
    meter = RaplMeter(server)
    dram = 65_712_999_613
    assert meter.read().counters == (
        Counter("package-0", "counter_cpu", 1000, RANGE),
        Counter("package-0/dram", "counter_cpu", 50, dram),
        Counter("package-1", "counter_cpu", 1001, RANGE),
        Counter("package-1/dram", "counter_cpu", 51, dram),
    )
    assert meter.boundary == ("package-0", "package-0/dram", "package-1", "package-1/dram")
    assert meter.about == "RAPL (package-0, package-0/dram, package-1, package-1/dram)"
    assert meter.read().holders == {}


def test_a_counter_that_fails_for_a_moment_is_left_out(server: Path) -> None:
    """The reading misses it, so that nobody takes the rest for the whole; it may come back."""
    meter = RaplMeter(server)
    energy = server / "intel-rapl:1" / "energy_uj"
    energy.write_text("")
    assert "package-1" not in {counter.domain for counter in meter.read().counters}
    energy.write_text("2000\n")
    assert Counter("package-1", "counter_cpu", 2000, RANGE) in meter.read().counters


def test_a_zone_that_may_not_be_read_leaves_no_meter(server: Path) -> None:
    """One package of two would pass for the node; the reason names the file."""
    energy = server / "intel-rapl:1" / "energy_uj"
    energy.unlink()
    energy.mkdir()  # cannot be read by anyone, not even by root
    meter = RaplMeter(server)
    assert meter.boundary == ()
    assert meter.read().counters == ()
    assert "intel-rapl:1/energy_uj" in meter.about


def test_a_machine_without_counters_says_so(tmp_path: Path) -> None:
    """A virtual machine, a container without /sys, another system."""
    meter = RaplMeter(tmp_path / "nothing")
    assert (meter.boundary, meter.read().counters) == ((), ())
    assert meter.about == "no RAPL on this machine"


def test_a_zone_without_a_range_never_wraps(tmp_path: Path) -> None:
    """Then running backwards is a reset."""
    zone(tmp_path / "intel-rapl:0", "package-0", 9, range_uj=None)
    assert RaplMeter(tmp_path).read().counters[0].range_uj is None
