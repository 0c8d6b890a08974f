"""What a rollout will be charged beside stable: device time, money, energy, carbon. Estimated.

A replica is charged from when it is ready until it stops, asked or not. So the candidate's
replicas cost their time until the end of the steps, and afterwards the old version's do, as long
as it is kept ready. What the candidate repeats unseen is a part of its replicas' time.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

from steelyard.domain.estimate import Draw, priced
from steelyard.domain.measures import Measures
from steelyard.domain.metering import EnergyMethod, Resource
from steelyard.domain.posting import Valuation
from steelyard.domain.quantities import SECOND_US
from steelyard.domain.rehearsal import Rehearsal
from steelyard.domain.rollout_plan import Plan

NOTHING = Measures(0, 0, 0, 0, 0)
"""Known to be nothing: no time is taken."""


@dataclass(frozen=True, slots=True)
class Served:
    """What a model's replicas reserved and used lately: sums of their windows.

    ``cpu_us`` and ``energy_mj`` are None where a window did not say. ``busy_us`` is the time in
    which requests were computed, ``requests`` their number.
    """

    reserved_us: int = 0
    busy_us: int = 0
    requests: int = 0
    cpu_us: int | None = None
    energy_mj: int | None = None
    energy_method: EnergyMethod = "unknown"

    @property
    def drawn(self) -> Draw:
        """How hard the devices worked; nothing known is taken as fully loaded.

        >>> Served(reserved_us=1000, cpu_us=250).drawn.cpu_share
        Fraction(1, 4)
        """
        if self.reserved_us and self.energy_mj is not None:
            return Draw(Fraction(1000 * self.energy_mj, self.reserved_us), self.energy_method)
        if self.reserved_us and self.cpu_us is not None:
            return Draw(cpu_share=min(Fraction(1), Fraction(self.cpu_us, self.reserved_us)))
        return Draw()


@dataclass(frozen=True, slots=True)
class Spend:
    """What a rollout will be charged; a part is None where its time is not known.

    ``canary_least`` until all traffic at the earliest, ``canary_expected`` until a version as good
    as stable is proven, ``warm`` the old version's after that; ``copies`` is the part of the
    candidate's time in which it repeats requests unseen. ``replicas`` of each version are counted,
    of ``candidates`` versions. ``basis`` says where the energy is from.
    """

    replicas: int
    candidates: int
    canary_least: Measures | None
    canary_expected: Measures | None
    copies: Measures | None
    warm: Measures | None
    basis: str


def spend(
    plan: Plan, found: Rehearsal, replica: Resource, valuation: Valuation, served: Served,
    replicas: int,
) -> Spend:  # fmt: skip
    """What carrying out a plan will be charged, at the rates that the ledger would use now."""
    candidates = max(1, len(plan.candidates))

    def of(seconds: float | None, devices: int, drawn: Draw) -> Measures | None:
        if seconds is None:
            return None
        wall_us = round(seconds * SECOND_US)
        if wall_us == 0:
            return NOTHING
        whole = replace(replica, device_count=devices)
        return priced(whole, wall_us, valuation, drawn).measures

    canary, drawn = replicas * candidates, served.drawn
    return Spend(
        replicas, candidates, of(found.promote_s, canary, drawn),
        of(found.expected_s, canary, drawn), of(_copied_s(found, served), 1, Draw()),
        of(plan.probation_s + plan.keep_warm_s, replicas, drawn), _basis(served),
    )  # fmt: skip


def _copied_s(found: Rehearsal, served: Served) -> float | None:
    """Device seconds in which copies are computed: each takes as long as a request does."""
    if found.copies == 0:
        return 0.0
    if found.copies is None or not served.requests:
        return None
    return found.copies * served.busy_us / served.requests / SECOND_US


def _basis(served: Served) -> str:
    if served.drawn == Draw():
        return "fully loaded devices, an upper bound: none of the model's was measured lately"
    return "devices as loaded as the model's were in the last hour"
