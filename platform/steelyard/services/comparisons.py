"""A model's versions on the plane of quality and one cost.

Evidence is what counts here and now: the newest record that holds on the hardware that serves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from steelyard.domain.cost import Price, price_at
from steelyard.domain.errors import NotFound
from steelyard.domain.evidence import DECIDES_SPEED
from steelyard.domain.model_version import ModelVersion
from steelyard.domain.pareto import (
    AXES,
    Axis,
    AxisName,
    Placed,
    Point,
    beside_parents,
    common,
    measured,
    placed,
)
from steelyard.services.gates import Gates, Standing

if TYPE_CHECKING:
    from steelyard.adapters.sql.catalog import CatalogStore
    from steelyard.ports.clock import Clock
    from steelyard.ports.registry import Registry

Where = tuple[str | None, ...]
"""What decides speed, of one machine."""
HERE: Where = ()
"""This machine, with whatever a version is run by on it."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A model's versions on one plane, and where their figures are from.

    ``hardware`` is that of the compared figures, ``here`` whether it is this machine's;
    ``runtimes`` are what they were run by, ``labels`` those that quality was judged on.
    ``price`` is given where money is the axis, ``energy_methods`` where energy is.
    """

    model: str
    axis: Axis
    placed: tuple[Placed, ...]
    hardware: Mapping[str, str]
    here: bool
    runtimes: tuple[str, ...]
    labels: int | None
    price: Price | None = None
    energy_methods: tuple[str, ...] = ()

    @property
    def caption(self) -> str:
        """Where the figures were measured, on how many labels, and what is not in the picture."""
        if not self.hardware:
            return f"{self.model}: nothing was measured yet."
        where = self.hardware
        parts = [where.get("cpu", "unknown processor"), *(self.runtimes or ["unknown runtime"])]
        if "threads" in where:
            parts.append(f"{where['threads']} thread{'' if where['threads'] == '1' else 's'}")
        if not self.here:
            parts.append("not the hardware that this platform serves on")
        n = "an unknown number of" if self.labels is None else f"{self.labels:,}"
        lines = [f"{self.model}, measured on: {', '.join(parts)}, batch 1.",
                 f"Accuracy on {n} held-out labels; bars are 95 % intervals."]  # fmt: skip
        if self.energy_methods:
            lines[1] += f" Energy by {', '.join(self.energy_methods)}."
        if self.price is not None:
            hourly = float(Fraction(self.price.price_nano, 10**9))
            lines[1] += f" Processor time at {hourly:g} US dollars an hour, idle time not included."
        if self.axis.on_hardware:
            lines.append("Variants: their ratio to the parent in one run, times the parent's own.")
        if absent := [f"{one.point.variant} (v{one.point.version})" for one in self.placed
                      if one.place == "unknown"]:  # fmt: skip
            lines.append(f"Without a figure, hence not drawn: {', '.join(absent)}.")
        return "\n".join(lines)


class Comparisons:
    """The use case of comparing. ``sku`` names the price of the hardware that serves."""

    def __init__(
        self, registry: "Registry", gates: Gates, catalog: "CatalogStore", clock: "Clock", sku: str
    ) -> None:
        self._registry = registry
        self._gates = gates
        self._catalog = catalog
        self._clock = clock
        self._sku = sku

    def pareto(self, model: str, against: AxisName) -> Sheet:
        """Every version of a model on the plane of quality and one cost.

        Raises:
            NotFound: there is no such model, or it has no version.
        """
        axis = AXES[against]
        standings = [(v, self._gates.standing(v)) for v in versions_of(self._registry, model)]
        held = [(_place(s), s.record.evidence) for _, s in standings if s.record is not None]
        place = common([where for where, _ in held], HERE)
        rows = common([e.data_sha256 for _, e in held])
        price = None
        if axis.name == "cost":
            price = price_today(self._catalog, self._clock, self._sku)
        points = [_point(v, s, axis, price, (place, rows)) for v, s in standings]
        if axis.on_hardware:
            points = list(beside_parents(points))
        used = [e for where, e in held if where == place and e.data_sha256 == rows]
        runtimes = {e.hardware["runtime"] for e in used if "runtime" in e.hardware}
        methods = {e.own.energy_method for e in used if e.own and e.own.energy_method}
        return Sheet(
            model, axis, placed(points), used[0].hardware if used else {},
            place == HERE, tuple(sorted(runtimes)), used[0].labels if used else None, price,
            tuple(sorted(methods)) if axis.name == "energy" else (),
        )  # fmt: skip


def versions_of(registry: "Registry", model: str) -> list[ModelVersion]:
    """Every version of a model, oldest first.

    Raises:
        NotFound: there is no such model, or it has no version.
    """
    versions = registry.versions(model)
    if not versions:
        raise NotFound(f"{model} has no version.", "Train one, or see: steelyard models list.")
    return versions


def price_today(catalog: "CatalogStore", clock: "Clock", sku: str) -> Price | None:
    """What an hour of a device costs now; None when nobody declared it."""
    now = clock.now_us()
    return price_at(catalog.rate_book(now).prices(sku), sku, now, now)


def no_record(standing: Standing) -> str:
    """Why there is no figure of a version; empty when there is."""
    if standing.record is not None:
        return ""
    return "; ".join(standing.why) or "no measured evidence"


def _point(
    version: ModelVersion, standing: Standing, axis: Axis, price: Price | None,
    shared: tuple[Where | None, str | None],
) -> Point:  # fmt: skip
    """A version's point; ``shared`` are the hardware and the rows of those to be compared."""
    if standing.record is None:
        return Point(version.version, version.variant, version.parent, None, None,
                     missing=no_record(standing))  # fmt: skip
    e, nano = standing.record.evidence, price.price_nano if price else None
    cost, theirs = measured(axis, e, "own", nano), measured(axis, e, "parent", nano)
    place, rows = shared
    apart = "measured on other hardware" if _place(standing) != place and axis.on_hardware else ""
    apart = apart or ("measured on other rows" if e.data_sha256 != rows else "")
    missing = "" if cost is not None else f"{axis.title.lower()} was not measured"
    if axis.name == "cost" and price is None:
        missing = "no price is declared for the serving device"
    return Point(
        version.version, version.variant, version.parent, e.accuracy, cost, e.accuracy_low,
        e.accuracy_high, cost / theirs if cost is not None and theirs else None, apart, missing,
    )  # fmt: skip


def _place(standing: Standing) -> Where:
    if standing.state == "fresh" or standing.record is None:
        return HERE
    return tuple(standing.record.evidence.hardware.get(key) for key in DECIDES_SPEED)
