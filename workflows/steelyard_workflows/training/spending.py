"""What a run has spent until now, counted as the ledger will count it.

Cost is reserved device time × the price in force. Energy is what windows say: metered, else the
declared load model; the window that is still open counts as fully loaded.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from steelyard.bootstrap import Platform
from steelyard.domain.cost import Price, charges, price_at
from steelyard.domain.energy import LoadModel, window_energy
from steelyard.domain.errors import Refused
from steelyard.domain.metering import Resource, SupplyWindow
from steelyard.domain.quantities import KWH_MJ
from steelyard.settings import Settings
from steelyard_workflows.booking.metering import Charge, now_us
from steelyard_workflows.training.limits import Spent, exceeded
from steelyard_workflows.training.stop import STOP_FILE, raise_sign, write_whole
from steelyard_workflows.workflow import Limits

USD = "USD"
SPENT_FILE = "spent.json"
TELL_EVERY_US = 500_000


@dataclass(frozen=True)
class Rates:
    """What the charged devices cost and draw, as it is known when the run starts."""

    prices: tuple[Price, ...] = ()
    load: LoadModel | None = None
    as_of_us: int = 0


def rates_for(settings: Settings, charge: Charge, limits: Limits) -> Rates:
    """The rates that the limits need; the rate book is opened only for them.

    Raises:
        Refused: there is a limit on cost or energy, and nobody has declared what would be
            counted: it could never be reached.
    """
    if limits.cost_usd is None and limits.energy_kwh is None:
        return Rates()
    catalog = Platform(settings).catalog
    now = now_us()  # after the shipped rows, which a new ledger takes in when it is opened
    devices = Resource(
        "", "train_worker", charge.device_model, charge.device_count, 1, charge.price_sku, now,
        charge.region, charge.team,
    )  # fmt: skip
    value = catalog.rate_book(now).valuation(devices, now)
    prices = tuple(value.prices)
    if limits.cost_usd is not None:
        _require_price(prices, charge.price_sku, now)
    if limits.energy_kwh is not None and value.load_model is None:
        raise Refused(
            f"limits.energy_kwh is set, and what {charge.device_model!r} draws is unknown.",
            "Declare it with steelyard ledger coefficients add --kind device_idle_w and "
            "--kind device_max_w, or take the limit out.",
        )
    return Rates(prices, value.load_model, now)


def _require_price(prices: tuple[Price, ...], sku: str, now: int) -> None:
    price = price_at(prices, sku, now, now)
    if price is not None and price.currency == USD:
        return
    found = "has no price in force" if price is None else f"is priced in {price.currency}"
    raise Refused(
        f"limits.cost_usd is set, and {sku!r} {found}.",
        "Declare one in USD with steelyard ledger prices add, or take the limit out.",
    )


class Spending:
    """Adds up the windows of all attempts of a run."""

    def __init__(self, charge: Charge, rates: Rates) -> None:
        self._charge = charge
        self._rates = rates
        self._started_us: int | None = None
        self._cost_nano: int | None = 0
        self._energy_mj: int | None = 0

    def start(self, at_us: int) -> None:
        """An attempt starts; the run's time runs from the first one."""
        if self._started_us is None:
            self._started_us = at_us

    def add(self, window: SupplyWindow) -> None:
        """Count a window that is booked."""
        self._cost_nano = _plus(self._cost_nano, self._cost(window))
        self._energy_mj = _plus(self._energy_mj, self._energy(window))

    def until(self, open_since_us: int, at_us: int) -> Spent:
        """What was spent up to now, with the window that is open since then."""
        began = at_us if self._started_us is None else self._started_us
        cost, energy = self._cost_nano, self._energy_mj
        if at_us > open_since_us:
            reserved = (at_us - open_since_us) * self._charge.device_count
            still = SupplyWindow("", "", 0, "", open_since_us, at_us, reserved)
            cost, energy = _plus(cost, self._cost(still)), _plus(energy, self._energy(still))
        return Spent(
            (at_us - began) / 1e6,
            None if cost is None else cost / 1e9,
            None if energy is None else energy / KWH_MJ,
        )

    def _cost(self, window: SupplyWindow) -> int | None:
        found = charges(
            self._rates.prices, self._charge.price_sku, window.window_start_us,
            window.window_end_us, self._charge.device_count, self._rates.as_of_us,
        )  # fmt: skip
        return None if found is None else sum(part.amount_nano for part in found)

    def _energy(self, window: SupplyWindow) -> int | None:
        found = window_energy(window, window.reserved_us, self._rates.load)
        return None if found is None else found.energy_mj


class Guard:
    """Raises the stop sign in the folder of a run that has reached a limit, once.

    Where there are limits, what is spent is written there too, for a sweep that adds up.
    """

    def __init__(self, limits: Limits, spending: Spending, folder: Path) -> None:
        self._limits = limits
        self.spending = spending
        self._folder = folder
        self._told_us = 0
        self._raised = False

    def look(self, open_since_us: int, at_us: int) -> None:
        """Compare what is spent with the limits."""
        spent = self.spending.until(open_since_us, at_us)
        if self._limits != Limits() and at_us - self._told_us >= TELL_EVERY_US:
            write_whole(self._folder / SPENT_FILE, json.dumps(asdict(spent)))
            self._told_us = at_us
        reason = None if self._raised else exceeded(self._limits, spent)
        if reason is not None:
            raise_sign(self._folder / STOP_FILE, reason)
            self._raised = True


def told(folder: Path) -> Spent | None:
    """What the run with this folder has said that it spent; None when it has said nothing yet."""
    path = folder / SPENT_FILE
    return Spent(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _plus(total: int | None, more: int | None) -> int | None:
    return None if total is None or more is None else total + more
