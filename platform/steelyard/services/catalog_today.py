"""What the catalog says at the moment of a report: peaks of devices, ends of coefficients."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from steelyard.domain.metering import Resource
from steelyard.domain.posting import Coefficient, Valuation
from steelyard.domain.quantities import DeviceTime
from steelyard.domain.sensitivity import Place
from steelyard.domain.unit_economics import CoefficientRange
from steelyard.domain.utilisation import Work, utilisation
from steelyard.services.accounts import ComputeLine

if TYPE_CHECKING:
    from steelyard.adapters.sql.catalog import CatalogStore
    from steelyard.adapters.sql.reports import Used
    from steelyard.domain.rate_book import RateBook


@dataclass(frozen=True, slots=True)
class CatalogToday:
    """The rows in force at ``at_us``, as they are known at that moment."""

    catalog: "CatalogStore"
    book: "RateBook"
    at_us: int

    def compute(self, used: "Iterable[Used]") -> tuple[ComputeLine, ...]:
        """What was computed, against the dense peaks of the devices; training first."""
        lines = [self._line(row) for row in used]
        return tuple(sorted(lines, key=lambda c: (
            c.phase != "training", c.run_id or "", c.activity, c.device_model, c.datatype or "",
        )))  # fmt: skip

    def _line(self, row: "Used") -> ComputeLine:
        work = Work(row.device_model, row.datatype, row.flop, row.flop_windows, row.windows,
                    DeviceTime(row.busy_device_us))  # fmt: skip
        key = work.peak_key
        peak = self.book.coefficient("peak_flops", key, self.at_us) if key else None
        mfu, unknown = utilisation(work, peak.value if peak else None)
        return ComputeLine(
            row.run_id, row.phase, row.activity, row.device_model, row.datatype, row.flop,
            row.flop_windows, row.windows, row.busy_device_us,
            peak_flop_per_s=float(peak.value) if peak else None,
            peak_coef_id=peak.coef_id if peak else None,
            mfu=None if mfu is None else float(mfu), mfu_unknown=unknown,
        )  # fmt: skip

    def places(self, where: Iterable[tuple[str, str | None]]) -> list[Place]:
        """The coefficients, with their ends, of device models in regions."""
        found = [self.book.valuation(_device(*place), self.at_us) for place in where]
        cited = {row["coef_id"]: row for row in self.catalog.cited(_cited(found))}
        return [_place(valuation, cited) for valuation in found]


def _device(model: str, region: str | None) -> Resource:
    return Resource("", "replica", model, 1, 1, "", 0, region)


def _cited(valuations: Iterable[Valuation]) -> list[str]:
    ids: set[str] = set()
    for v in valuations:
        ids |= set(v.load_model.coef_ids if v.load_model else ())
        rows = (v.pue, v.intensity, v.embodied_kg, v.lifespan_h)
        ids |= {row.coef_id for row in rows if row is not None}
    return sorted(ids)


def _place(v: Valuation, cited: Mapping[str, Mapping[str, Any]]) -> Place:
    def ends(row: Coefficient | None) -> CoefficientRange | None:
        return None if row is None else _range(cited[row.coef_id])

    watts: Sequence[CoefficientRange] = [
        _range(cited[coef_id]) for coef_id in (v.load_model.coef_ids if v.load_model else ())
    ]
    return Place((watts[0], watts[1]) if watts else None, ends(v.pue), ends(v.intensity),
                 ends(v.embodied_kg), ends(v.lifespan_h))  # fmt: skip


def _range(row: Mapping[str, Any]) -> CoefficientRange:
    low, high = (Fraction(end) if end else None for end in (row["low"], row["high"]))
    return CoefficientRange(Fraction(row["value"]), low, high)
