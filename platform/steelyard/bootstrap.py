"""The composition root: the only file that picks adapters.

Imports are inside functions, because a replica opens a producer and must not load SQLAlchemy or
MLflow for it.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from steelyard.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from steelyard.adapters.spool import Producer
    from steelyard.adapters.sql.catalog import CatalogStore
    from steelyard.adapters.sql.facts import FactStore
    from steelyard.adapters.sql.ledger import LedgerStore
    from steelyard.adapters.sql.predictions import PredictionStore
    from steelyard.adapters.sql.rollouts import RolloutStore
    from steelyard.adapters.supervisor import Supervisor
    from steelyard.adapters.system_clock import SystemClock
    from steelyard.ports.registry import Registry
    from steelyard.services.audits import Audits
    from steelyard.services.metering import Metering
    from steelyard.services.rollouts import Rollouts
    from steelyard.services.statements import Statements


def producer(settings: Settings, producer_id: str) -> "Producer":
    """A writer of facts into this machine's spool."""
    from steelyard.adapters.spool import Producer

    return Producer(settings.spool_dir, producer_id)


def registry(settings: Settings) -> "Registry":
    """The model registry."""
    from steelyard.adapters.mlflow_registry import MlflowRegistry

    return MlflowRegistry(settings.registry_uri)


def collect(settings: Settings) -> None:
    """Move what was measured on this machine into the ledger; may be repeated at any time."""
    platform = Platform(settings)
    platform.learn_versions()
    platform.metering.collect()
    platform.metering.post()


def supervisor(settings: Settings) -> "Supervisor":
    """The owner of the processes that ``steelyard up`` starts."""
    from steelyard.adapters.supervisor import Supervisor

    return Supervisor(settings.run_dir, settings.log_dir)


@dataclass(frozen=True)
class Platform:
    """Every use case on the configured stores. Opening one migrates the database."""

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
        if migrate(engine):
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
    def rollouts(self) -> "Rollouts":
        """Progressive delivery."""
        from steelyard.services.rollouts import Rollouts

        return Rollouts(self.rollout_store, self.predictions, self.registry, self.clock)

    @cached_property
    def metering(self) -> "Metering":
        """Spool to ledger."""
        from steelyard.adapters.spool import SpoolFolder
        from steelyard.services.metering import Metering

        spool = SpoolFolder(self.settings.spool_dir)
        return Metering(self.facts, self.ledger, self.catalog, spool, self.clock)

    @cached_property
    def statements(self) -> "Statements":
        """Reports."""
        from steelyard.services.statements import Statements

        return Statements(self.ledger, self.facts, self.catalog, self.clock)

    @cached_property
    def audits(self) -> "Audits":
        """Traces and verification."""
        from steelyard.services.audits import Audits

        return Audits(
            self.predictions, self.rollout_store, self.catalog, self.ledger, self.clock,
            self.settings.price_sku,
        )  # fmt: skip

    def learn_versions(self) -> None:
        """Copy what reports need of every registered version."""
        known = {(v["model"], v["version"]) for v in self.catalog.versions()}
        for model in self.registry.models():
            for version in self.registry.versions(model):
                if (model, version.version) not in known:
                    self.catalog.record_version(version)
