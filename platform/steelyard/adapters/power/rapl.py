"""RAPL: the processors' own energy counters, through the kernel's powercap tree.

A package contains its cores and its graphics part, so only packages count; memory is beside
them and added. ``psys`` (the whole board) contains the packages, and ``intel-rapl-mmio`` is the
same package by another way: both are left out. AMD's processors appear under the same names.
See Documentation/power/powercap/powercap.rst in the Linux sources.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from steelyard.domain.power import Counter, Reading

ZONE = re.compile(r"intel-rapl:\d+")
SUBZONE = re.compile(r"intel-rapl:\d+:\d+")


@dataclass(frozen=True, slots=True)
class Zone:
    """One counted zone: its folder, and the microjoules after which it starts again."""

    domain: str
    folder: Path
    range_uj: int | None


class RaplMeter:
    """``PowerMeter`` on the zones below ``root`` (normally ``/sys/class/powercap``).

    Where a zone exists but may not be read (the kernel lets only root since 2020), nothing is:
    a sum over some packages would pass for the node's.
    """

    def __init__(self, root: Path) -> None:
        self._refused = ""
        self._zones: tuple[Zone, ...] = ()
        try:
            zones = tuple(_zones(root))
            for zone in zones:
                _energy_uj(zone)
            self._zones = zones
        except OSError as error:
            self._refused = f"{error.filename}: {error.strerror}"
        except ValueError as error:
            self._refused = f"{root}: {error}"

    @property
    def boundary(self) -> tuple[str, ...]:
        """Packages and their memory."""
        return tuple(zone.domain for zone in self._zones)

    @property
    def about(self) -> str:
        """Which zones are read, or why none is."""
        if self._refused:
            return f"no RAPL ({self._refused})"
        return f"RAPL ({', '.join(self.boundary)})" if self._zones else "no RAPL on this machine"

    def read(self) -> Reading:
        """Every zone that can be read now."""
        counters = []
        for zone in self._zones:
            try:
                energy_uj = _energy_uj(zone)
            except (OSError, ValueError):
                continue
            counters.append(Counter(zone.domain, "counter_cpu", energy_uj, zone.range_uj))
        return Reading(tuple(counters), {})


def _zones(root: Path) -> Iterator[Zone]:
    for package in _folders(root, ZONE):
        name = _text(package / "name")
        if not name.startswith("package"):
            continue
        yield Zone(name, package, _range_uj(package))
        for part in _folders(package, SUBZONE):
            if _text(part / "name") == "dram":
                yield Zone(f"{name}/dram", part, _range_uj(part))


def _folders(root: Path, pattern: re.Pattern[str]) -> list[Path]:
    return sorted(p for p in root.glob("intel-rapl:*") if pattern.fullmatch(p.name))


def _energy_uj(zone: Zone) -> int:
    return int(_text(zone.folder / "energy_uj"))


def _range_uj(folder: Path) -> int | None:
    """None where the kernel gives no range; then running backwards is a reset."""
    try:
        return int(_text(folder / "max_energy_range_uj")) or None
    except FileNotFoundError:
        return None


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()
