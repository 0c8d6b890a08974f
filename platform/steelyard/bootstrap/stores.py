"""What use cases rest on: the clock, the registry, and the stores in the database."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from steelyard.bootstrap.registry import registry
from steelyard.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from steelyard.adapters.sql.arms import ArmStore
    from steelyard.adapters.sql.budgets import BudgetStore
    from steelyard.adapters.sql.catalog import CatalogStore
    from steelyard.adapters.sql.facts import FactStore
    from steelyard.adapters.sql.ledger import LedgerStore
    from steelyard.adapters.sql.operations import OperationStore
    from steelyard.adapters.sql.periods import PeriodStore
    from steelyard.adapters.sql.predictions import PredictionStore
    from steelyard.adapters.sql.reports import ReportStore
    from steelyard.adapters.sql.rollouts import RolloutStore
    from steelyard.adapters.system_clock import SystemClock
    from steelyard.ports.registry import Registry


@dataclass(frozen=True)
class Stores:
    """The configured stores. Opening one migrates the database."""

    settings: Settings

    @cached_property
    def clock(self) -> "SystemClock":
        """The machine's clock."""
        from steelyard.adapters.system_clock import SystemClock

        return SystemClock()

    @cached_property
    def engine(self) -> "Engine":
        """The database at this version's schema, with the shipped tables loaded."""
        from steelyard.adapters.sql.catalog import CatalogStore
        from steelyard.adapters.sql.database import migrate, open_engine

        engine = open_engine(self.settings.database)
        migrate(engine)
        CatalogStore(engine).load_shipped(self.clock.now_us())
        return engine

    @cached_property
    def registry(self) -> "Registry":
        """The model registry."""
        return registry(self.settings)

    @cached_property
    def catalog(self) -> "CatalogStore":
        """Prices, coefficients, known versions."""
        from steelyard.adapters.sql.catalog import CatalogStore

        return CatalogStore(self.engine)

    @cached_property
    def facts(self) -> "FactStore":
        """Measured windows."""
        from steelyard.adapters.sql.facts import FactStore

        return FactStore(self.engine)

    @cached_property
    def ledger(self) -> "LedgerStore":
        """Entries."""
        from steelyard.adapters.sql.ledger import LedgerStore

        return LedgerStore(self.engine)

    @cached_property
    def periods(self) -> "PeriodStore":
        """Months of the books."""
        from steelyard.adapters.sql.periods import PeriodStore

        return PeriodStore(self.engine)

    @cached_property
    def predictions(self) -> "PredictionStore":
        """Predictions and labels."""
        from steelyard.adapters.sql.predictions import PredictionStore

        return PredictionStore(self.engine)

    @cached_property
    def rollout_store(self) -> "RolloutStore":
        """Rollouts and promotions."""
        from steelyard.adapters.sql.rollouts import RolloutStore

        return RolloutStore(self.engine)

    @cached_property
    def arms(self) -> "ArmStore":
        """What both arms of a rollout answered."""
        from steelyard.adapters.sql.arms import ArmStore

        return ArmStore(self.engine)

    @cached_property
    def reports(self) -> "ReportStore":
        """Sums of roll-ups."""
        from steelyard.adapters.sql.reports import ReportStore

        return ReportStore(self.engine)

    @cached_property
    def budget_store(self) -> "BudgetStore":
        """Budgets and the owners of models."""
        from steelyard.adapters.sql.budgets import BudgetStore

        return BudgetStore(self.engine)

    @cached_property
    def operation_store(self) -> "OperationStore":
        """Shadows and drains."""
        from steelyard.adapters.sql.operations import OperationStore

        return OperationStore(self.engine)
