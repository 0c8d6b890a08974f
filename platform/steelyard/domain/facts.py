"""Everything a producer may report."""

from steelyard.domain.audit import PredictionRecord
from steelyard.domain.metering import (
    Resource,
    ResourceEnd,
    RunAttempt,
    SupplyWindow,
    UsageWindow,
)

Fact = Resource | ResourceEnd | SupplyWindow | UsageWindow | RunAttempt | PredictionRecord
