"""The composition root: the only file that picks adapters.

Imports are inside functions, because a replica opens a producer and must not load SQLAlchemy or
MLflow for it.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from steelyard.domain.supervision import Probe, ProcessSpec
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

    return Supervisor(settings.home, settings.run_dir, settings.log_dir)


def check_ports(specs: "Sequence[ProcessSpec]") -> None:
    """Refuse to start on ports that are in use."""
    from steelyard.adapters.supervisor import check_ports

    check_ports(specs)


def process_specs(settings: Settings) -> "list[ProcessSpec]":
    """Every process of the platform: ours, and what installed packages contribute."""
    specs = [api_process(settings)]
    if not settings.mlflow_uri:
        specs.append(mlflow_process(settings))
    for point in sorted(entry_points(group="steelyard.processes"), key=lambda p: p.name):
        specs += point.load()(settings)
    return specs


def api_process(settings: Settings) -> ProcessSpec:
    """The dashboard and its API."""
    return ProcessSpec(
        name="api",
        command=(sys.executable, "-m", "steelyard.api"),
        environment=settings.as_environment(),
        probe=Probe(url=f"{settings.api_url}/health"),
        ports={"api_port": (settings.host, settings.api_port)},
    )


def mlflow_process(settings: Settings) -> ProcessSpec:
    """MLflow's web pages over the embedded registry, without its job runners."""
    return ProcessSpec(
        name="mlflow",
        command=(
            sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1",
            "--port", str(settings.mlflow_port), "--backend-store-uri", settings.registry_uri,
            "--artifacts-destination", settings.artifact_root.as_uri(),
        ),
        environment={
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        },
        probe=Probe(url=f"http://127.0.0.1:{settings.mlflow_port}/health"),
        ports={"mlflow_port": ("127.0.0.1", settings.mlflow_port)},
    )  # fmt: skip


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
