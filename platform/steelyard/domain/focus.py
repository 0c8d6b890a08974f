"""Charges as rows of the FinOps Open Cost and Usage Specification (FOCUS) 1.2, 1.3, 1.4.

Costs are exact to the nano-USD. A unit price times a quantity is the cost only if the quantity
is what was paid for, so ``PricingQuantity`` is cost ÷ unit price; ``ConsumedQuantity`` is the
device time as it was measured.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from steelyard.domain.charge import DAY_US, Charge
from steelyard.domain.cost import Price
from steelyard.domain.focus_columns import Version
from steelyard.domain.focus_naming import RESERVED, naming
from steelyard.domain.quantities import KWH_MJ
from steelyard.domain.table import Cell, exact, moment, plain, rounded

NANO, MICRO = 9, 6
QUANTITY_PLACES, KWH_PLACES, SHARE_PLACES = 15, 12, 12
UNITS = {"device_hour": "Hours"}
PRICING = {"on_demand": "Standard", "internal": "Standard", "spot": "Dynamic",
           "reserved": "Committed"}  # fmt: skip
Category = Literal["Usage", "Purchase", "Adjustment"]


@dataclass(frozen=True, slots=True)
class Parties:
    """What a company calls who charges, who is charged, who provides, and on whose machines."""

    invoice_issuer: str
    billing_account_id: str
    billing_account_name: str
    service_provider: str
    host_provider: str


@dataclass(frozen=True, slots=True)
class Reference:
    """What a day's rows need besides its charges.

    Prices by id, variants by (model, version), the team that each model belongs to, and names.
    """

    prices: Mapping[str, Price]
    variants: Mapping[tuple[str, int], str]
    teams: Mapping[str, str]
    parties: Parties


def rows(
    charges: Iterable[Charge], reference: Reference, version: Version
) -> Iterator[dict[str, Cell]]:
    """Rows of one booked month and day: each charge, then what was paid for reservations.

    A charge under a reserved price is covered by the reservation: it bills nothing, and a
    purchase row bills the sum of what it covers and has no effective cost of its own. So both
    costs sum to the ledger's total.
    """
    purchases: dict[tuple[str, str, bool], list[Charge]] = defaultdict(list)
    for charge in charges:
        price = reference.prices[charge.price_id] if charge.price_id else None
        yield _row(charge, price, reference, version)
        if price is not None and price.kind == "reserved":
            period_id, reverses = charge.period.period_id, charge.cost_nano < 0
            purchases[period_id, price.price_id, reverses].append(charge)
    for (_, price_id, _), covered in sorted(purchases.items()):
        yield _purchase(covered, reference.prices[price_id], reference.parties)


def _row(
    charge: Charge, price: Price | None, reference: Reference, version: Version
) -> dict[str, Cell]:
    named = naming(charge, reference.variants, reference.teams, with_split=version != "1.2")
    category: Category = "Usage" if price is not None else "Adjustment"
    row: dict[str, Cell] = {
        **_when(charge), **_costs(charge.cost_nano), **_parties(reference.parties),
        "ChargeCategory": category,
        "ChargeFrequency": "Usage-Based" if price is not None else "One-Time",
        "ChargeDescription": named.description,
        "SubAccountId": named.team, "SubAccountName": named.team,
        "ServiceName": named.service,
        "ResourceId": named.resource_id, "ResourceName": named.resource_name,
        "ResourceType": named.resource_type,
        "RegionId": charge.origin.region if charge.origin else None,
        "RegionName": charge.origin.region if charge.origin else None,
        "Tags": named.tags,
        **_measured(charge),
    }  # fmt: skip
    if price is not None:
        row |= _priced(charge, price)
    if charge.split is not None and version != "1.2":
        row |= _split(charge, named.allocated_id, named.allocated_name, named.allocated_tags)
    return row


def _when(charge: Charge) -> dict[str, Cell]:
    return {
        "BillingPeriodStart": moment(charge.period.start_us),
        "BillingPeriodEnd": moment(charge.period.end_us),
        "ChargePeriodStart": moment(charge.day * DAY_US),
        "ChargePeriodEnd": moment((charge.day + 1) * DAY_US),
        "ChargeClass": "Correction" if charge.correction else None,
    }


def _parties(named: Parties) -> dict[str, Cell]:
    """Provider and publisher are what versions before 1.4 call whoever provides the service."""
    provider = ("ProviderName", "PublisherName", "ServiceProviderName")
    return {
        **dict.fromkeys(provider, named.service_provider), "BillingCurrency": "USD",
        "HostProviderName": named.host_provider, "InvoiceIssuerName": named.invoice_issuer,
        "BillingAccountId": named.billing_account_id,
        "BillingAccountName": named.billing_account_name,
        "ServiceCategory": "AI and Machine Learning", "ServiceSubcategory": "Machine Learning",
    }  # fmt: skip


def _costs(nano: int) -> dict[str, Cell]:
    names = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")
    return dict.fromkeys(names, exact(nano, NANO))


def _priced(charge: Charge, price: Price) -> dict[str, Cell]:
    hours, unit_price = _quantity(charge.cost_nano, price), exact(price.price_nano, NANO)
    unit = UNITS.get(price.unit, price.unit)
    row: dict[str, Cell] = {
        "ListUnitPrice": unit_price, "ContractedUnitPrice": unit_price,
        "PricingCategory": PRICING[price.kind],
        "PricingQuantity": hours, "PricingUnit": unit,
        "SkuId": price.sku, "SkuMeter": "Reserved device time", "SkuPriceId": price.price_id,
    }  # fmt: skip
    unused = price.kind == "reserved" and _unused(charge)
    if charge.device_us is not None and not unused:
        row |= {"ConsumedQuantity": exact(charge.device_us, MICRO), "ConsumedUnit": "Seconds"}
    if price.kind == "reserved":
        row |= {**_commitment(price), "BilledCost": exact(0, NANO),
                "CommitmentDiscountStatus": "Unused" if unused else "Used",
                "CommitmentDiscountQuantity": hours, "CommitmentDiscountUnit": unit}  # fmt: skip
    return row


def _unused(charge: Charge) -> bool:
    """The part of a reservation that nothing ran on; an idle replica does occupy it."""
    whose = charge.origin
    return charge.account.role == "idle" and whose is not None and whose.kind == "reservation"


def _commitment(price: Price) -> dict[str, Cell]:
    return {
        "CommitmentDiscountId": f"reservation/{price.sku}", "CommitmentDiscountName": price.sku,
        "CommitmentDiscountCategory": "Usage", "CommitmentDiscountType": "Reservation",
    }  # fmt: skip


def _purchase(covered: list[Charge], price: Price, parties: Parties) -> dict[str, Cell]:
    nano = sum(charge.cost_nano for charge in covered)
    last = max(covered, key=lambda charge: charge.last_seq)
    hours, unit_price = _quantity(nano, price), exact(price.price_nano, NANO)
    unit = UNITS.get(price.unit, price.unit)
    return {
        **_when(last), **_costs(nano), **_parties(parties), **_commitment(price),
        "EffectiveCost": exact(0, NANO),
        "ChargeCategory": "Purchase", "ChargeFrequency": "Recurring",
        "ChargeDescription": f"Reservation of {price.sku}: the part that fell on this day",
        "ListUnitPrice": unit_price, "ContractedUnitPrice": unit_price,
        "PricingCategory": "Standard", "PricingQuantity": hours, "PricingUnit": unit,
        "CommitmentDiscountQuantity": hours, "CommitmentDiscountUnit": unit,
        "ServiceName": RESERVED, "SkuId": price.sku, "SkuMeter": "Reservation",
        "SkuPriceId": price.price_id, "ResourceId": f"reservation/{price.sku}",
        "ResourceName": price.sku, "ResourceType": "Reservation",
        "x_LedgerSeqFrom": min(charge.first_seq for charge in covered),
        "x_LedgerSeqTo": last.last_seq, "x_LedgerHash": last.last_hash,
    }  # fmt: skip


def _quantity(nano: int, price: Price) -> Decimal:
    return rounded(Fraction(nano, price.price_nano), QUANTITY_PLACES)


def _measured(charge: Charge) -> dict[str, Cell]:
    energy, carbon, embodied = charge.energy_mj, charge.carbon_ug, charge.embodied_ug
    return {
        "x_EnergyKwh": None if energy is None else rounded(Fraction(energy, KWH_MJ),
                                                           KWH_PLACES),
        "x_CarbonLocationKgCo2e": None if carbon is None else exact(carbon, NANO),
        "x_CarbonEmbodiedKgCo2e": None if embodied is None else exact(embodied, NANO),
        "x_MeasurementTier": charge.tier, "x_Phase": charge.account.phase,
        "x_LedgerAccount": charge.account.path, "x_LedgerSeqFrom": charge.first_seq,
        "x_LedgerSeqTo": charge.last_seq, "x_LedgerHash": charge.last_hash,
    }  # fmt: skip


def _split(
    charge: Charge, allocated_id: str | None, name: str | None, tags: str | None
) -> dict[str, Cell]:
    split = charge.split
    assert split is not None
    measure = ""
    if charge.device_us is not None:
        seconds = plain(exact(abs(charge.device_us), MICRO))
        measure = f',"UsageUnit":"Seconds","UsageQuantity":{seconds}'
    ratio = plain(exact(split.share, SHARE_PLACES))
    return {
        "AllocatedMethodId": "busy_share",
        "AllocatedMethodDetails": f'{{"Elements":[{{"AllocatedRatio":{ratio}{measure}}}]}}',
        "AllocatedResourceId": allocated_id, "AllocatedResourceName": name,
        "AllocatedTags": tags,
        "x_OriginChargeId": split.origin_id, "x_OriginChargeCost": exact(split.origin_nano, NANO),
    }  # fmt: skip
