"""The columns of a FOCUS file, by version of the specification. Our own come last, as ``x_``."""

from typing import Literal, get_args

from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.table import Column

Version = Literal["1.2", "1.3", "1.4"]

_HEAD = (
    Column("BillingAccountId"), Column("BillingAccountName"), Column("BillingCurrency"),
    Column("BillingPeriodStart", "time"), Column("BillingPeriodEnd", "time"),
    Column("SubAccountId"), Column("SubAccountName"),
    Column("ChargeCategory"), Column("ChargeClass"), Column("ChargeDescription"),
    Column("ChargeFrequency"),
    Column("ChargePeriodStart", "time"), Column("ChargePeriodEnd", "time"),
    Column("BilledCost", "decimal", 9), Column("EffectiveCost", "decimal", 9),
    Column("ListCost", "decimal", 9), Column("ContractedCost", "decimal", 9),
    Column("ListUnitPrice", "decimal", 9), Column("ContractedUnitPrice", "decimal", 9),
    Column("PricingCategory"), Column("PricingQuantity", "decimal", 15), Column("PricingUnit"),
    Column("ConsumedQuantity", "decimal", 6), Column("ConsumedUnit"),
    Column("CommitmentDiscountCategory"), Column("CommitmentDiscountId"),
    Column("CommitmentDiscountName"), Column("CommitmentDiscountQuantity", "decimal", 15),
    Column("CommitmentDiscountStatus"), Column("CommitmentDiscountType"),
    Column("CommitmentDiscountUnit"),
    Column("InvoiceIssuerName"),
)  # fmt: skip
_UNTIL_1_3 = (Column("ProviderName"), Column("PublisherName"))
_SINCE_1_3 = (Column("ServiceProviderName"), Column("HostProviderName"))
_SERVICE = (
    Column("ServiceCategory"), Column("ServiceName"), Column("ServiceSubcategory"),
    Column("SkuId"), Column("SkuMeter"), Column("SkuPriceId"),
    Column("ResourceId"), Column("ResourceName"), Column("ResourceType"),
    Column("RegionId"), Column("RegionName"), Column("Tags", "json"),
)  # fmt: skip
_ALLOCATED = (
    Column("AllocatedMethodId"), Column("AllocatedMethodDetails", "json"),
    Column("AllocatedResourceId"), Column("AllocatedResourceName"),
    Column("AllocatedTags", "json"),
)  # fmt: skip
_OWN = (
    Column("x_EnergyKwh", "decimal", 12), Column("x_CarbonLocationKgCo2e", "decimal", 9),
    Column("x_CarbonEmbodiedKgCo2e", "decimal", 9), Column("x_MeasurementTier"),
    Column("x_Phase"), Column("x_LedgerAccount"), Column("x_LedgerSeqFrom", "integer"),
    Column("x_LedgerSeqTo", "integer"), Column("x_LedgerHash"),
)  # fmt: skip
_OWN_ALLOCATED = (Column("x_OriginChargeId"), Column("x_OriginChargeCost", "decimal", 9))


def columns(version: Version) -> tuple[Column, ...]:
    """The columns of one version, in order.

    1.4 took away ``ProviderName`` and ``PublisherName``; 1.3 brought their successors and the
    columns of split costs.
    """
    providers = (_UNTIL_1_3 if version != "1.4" else ()) + (_SINCE_1_3 if version != "1.2" else ())
    if version == "1.2":
        return _HEAD + providers + _SERVICE + _OWN
    return _HEAD + providers + _SERVICE + _ALLOCATED + _OWN + _OWN_ALLOCATED


def parse_version(text: str) -> Version:
    """A version that can be written.

    Raises:
        InvalidInput: it is none of 1.2, 1.3, 1.4.
    """
    for version in get_args(Version):
        if text == version:
            return version  # type: ignore[no-any-return]
    known = ", ".join(get_args(Version))
    fault = Fault("focus-version", f"{text!r} is none of {known}")
    raise InvalidInput(str(fault), (fault,), "1.4 is the newest.")
