"""What a statement says: the account of a version, a model, a team, and of the whole ledger.

Values only. Amounts are ledger integers, days are UTC; unknown is None, never 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from steelyard.domain.break_even import BreakEven
from steelyard.domain.compute import AlertState
from steelyard.domain.measures import Basis, Measures, Pair
from steelyard.domain.metering import Activity, LedgerPhase
from steelyard.services.economics import (
    BreakEvenOutlook,
    CarbonScore,
    PayBackOutlook,
    PerThousand,
)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was asked of a version: requests, failed ones, items, and the measured rate a day."""

    requests: int = 0
    errors: int = 0
    items: int = 0
    cache_hits: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    requests_per_day: float | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """Windows received of windows expected, as producers numbered them; 1.0 is complete.

    ``open_boots`` of ``boots`` run or were killed: they did not say their last number.
    """

    received: int
    expected: int
    boots: int
    open_boots: int
    share: float | None


@dataclass(frozen=True, slots=True)
class UpstreamStatement:
    """What making a version's distinct ancestors cost, each counted once, over all time.

    A measure is None while it is unknown for one of them. ``training_flop`` is the version's own
    and theirs, a lower bound unless ``eu_alert`` says ``reached`` or ``below`` (10^25 FLOP,
    Regulation (EU) 2024/1689, Art. 51).
    """

    ancestors: tuple[str, ...]
    training: Measures
    training_flop: int
    eu_alert: AlertState


@dataclass(frozen=True, slots=True)
class ComputeLine:
    """What one activity computed on one device model in one datatype, and its utilisation.

    ``flop`` sums ``flop_windows`` of all ``windows``; ``busy_device_us`` is device-microseconds.
    ``mfu`` is FLOP / (dense peak · busy device time), a fraction of 1; None is explained in
    ``mfu_unknown``. ``peak_coef_id`` is the catalog's row of the peak that is in force today.
    """

    run_id: str | None
    phase: LedgerPhase
    activity: Activity
    device_model: str
    datatype: str | None
    flop: int | None
    flop_windows: int
    windows: int
    busy_device_us: int
    peak_flop_per_s: float | None
    peak_coef_id: str | None
    mfu: float | None
    mfu_unknown: str | None


@dataclass(frozen=True, slots=True)
class VersionStatement:
    """One version. ``version`` None collects runs that never became a version (failed, open).

    ``training`` includes ``training_idle``; ``serving`` is direct use, ``idle`` the reserved time
    its replicas waited. ``bases`` sums them: ``usage`` without idle time, ``allocation`` with it.
    ``compute`` has a line for each run, activity, device model and datatype. ``pay_back`` is in
    money, the two after it in energy and in operational carbon; None where nothing is paid back.
    """

    version: int | None
    variant: str | None
    relation: str | None
    parent: int | None
    run_id: str | None
    training: Measures
    training_idle: Measures
    serving: Measures
    idle: Measures
    bases: Mapping[Basis, Pair]
    energy_by_tier_mj: Mapping[str, int]
    compute: tuple[ComputeLine, ...]
    traffic: Traffic
    break_even: BreakEven
    pay_back: PayBackOutlook | None
    pay_back_energy: PayBackOutlook | None
    pay_back_carbon: PayBackOutlook | None
    upstream: UpstreamStatement | None


@dataclass(frozen=True, slots=True)
class Point:
    """Cumulative cost at a moment, nano-USD; inference with its idle time."""

    at_us: int
    training_nano: int
    inference_nano: int


@dataclass(frozen=True, slots=True)
class ModelStatement:
    """A model's account at one moment, and the ledger position it was read at.

    ``first_day`` and ``last_day`` bound what is counted, None is everything. ``break_even`` is at
    the average cost of ``requests_so_far``, ``break_even_outlook`` at that of the last 28
    complete days; both, ``per_1000`` and ``carbon_score`` are about everything. ``series`` is
    cost since the beginning. ``energy_metered_share`` is the part of the energy that a meter
    read; ``energy_estimated``: none of it.
    """

    model: str
    team: str | None
    as_of_us: int
    first_day: date | None
    last_day: date | None
    ledger_seq: int
    ledger_hash: str
    versions: tuple[VersionStatement, ...]
    training: Measures
    training_idle: Measures
    serving: Measures
    idle: Measures
    bases: Mapping[Basis, Pair]
    energy_by_tier_mj: Mapping[str, int]
    energy_by_tier_share: Mapping[str, float]
    energy_metered_share: float | None
    energy_estimated: bool
    completeness: Received
    traffic: Traffic
    requests_so_far: int
    break_even: Mapping[Basis, BreakEven]
    break_even_outlook: Mapping[Basis, BreakEvenOutlook]
    per_1000: Mapping[Basis, Mapping[str, PerThousand]]
    training_runs: int
    per_training_run: Measures
    carbon_score: CarbonScore
    series: tuple[Point, ...]
    currency: str = "USD"


@dataclass(frozen=True, slots=True)
class Brief:
    """A line about a model: its cost so far in nano-USD, on the basis ``allocation``."""

    model: str
    training_nano: int | None
    inference_nano: int | None
    requests: int
    break_even: BreakEven


@dataclass(frozen=True, slots=True)
class TeamStatement:
    """What the models of a team cost while they were its; idle time included."""

    team: str
    models: tuple[str, ...]
    training: Measures
    inference: Measures
    energy_by_tier_mj: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LedgerStatement:
    """The whole ledger: supply = training + inference + unowned idle + overhead, to the unit.

    ``overhead`` is energy that buildings add to the devices' (PUE); ``unowned_idle`` is reserved
    time that no version waited in.
    """

    supply: Measures
    training: Measures
    inference: Measures
    unowned_idle: Measures
    overhead: Measures
    energy_by_tier_mj: Mapping[str, int]
    energy_by_tier_share: Mapping[str, float]
    energy_metered_share: float | None
    completeness: Received
    teams: tuple[TeamStatement, ...] = field(default=())
