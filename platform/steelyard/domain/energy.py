"""Energy of a window: what a meter said, else a declared load model, else unknown.

Tiers and their uncertainty: metered_wall ±2 %, counters ±5-10 % (chip only), sampled_power ±35 %,
modelled_load ±50 %, nameplate an upper bound. The first three are "measured", the rest
"estimated", and that never mixes.
"""

from dataclasses import dataclass
from fractions import Fraction

from steelyard.domain.allocation import round_half_even
from steelyard.domain.metering import EnergyMethod, SupplyWindow

MEASURED: frozenset[str] = frozenset(
    {"metered_wall", "counter_gpu", "counter_cpu", "sampled_power"}
)


@dataclass(frozen=True, slots=True)
class LoadModel:
    """Declared power of one device: watts when idle and at full load, with their source rows."""

    idle_w: Fraction
    max_w: Fraction
    coef_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WindowEnergy:
    """Energy of one supply window. ``floor_mj`` is the idle part, drawn whatever runs."""

    energy_mj: int
    idle_floor_mj: int
    method: EnergyMethod
    coef_ids: tuple[str, ...] = ()


def window_energy(
    window: SupplyWindow, busy_us: int, model: LoadModel | None
) -> WindowEnergy | None:
    """Energy of a window whose devices were busy for ``busy_us`` device-microseconds.

    A metered figure wins. Otherwise E = P_idle·t + (P_max − P_idle)·t_cpu (the linear model of
    Cloud Carbon Footprint), with the process's CPU time when it is known, else the busy time.
    Idle's share is P_idle · t · (1 − u). None when neither meter nor model exists.
    """
    reserved = window.reserved_us
    idle_w = model.idle_w if model else Fraction(0)
    idle_share = idle_w * max(0, reserved - busy_us) / 1000
    if window.energy_mj is not None:
        # A process's part of a CPU counter follows its own CPU time: no idle watts are in it.
        floor = min(window.energy_mj, round_half_even(idle_share))
        floor = 0 if window.energy_method == "counter_cpu" else floor
        return WindowEnergy(window.energy_mj, floor, window.energy_method)
    if model is None:
        return None
    loaded = min(reserved, window.cpu_us if window.cpu_us is not None else busy_us)
    total = (model.idle_w * reserved + (model.max_w - model.idle_w) * loaded) / 1000
    energy_mj = round_half_even(total)
    floor = min(energy_mj, round_half_even(idle_share))
    return WindowEnergy(energy_mj, floor, "modelled_load", model.coef_ids)
