"""The composition root: only this package picks adapters.

Imports are inside functions, because a replica opens a producer and must not load SQLAlchemy or
MLflow for it.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from steelyard.bootstrap.accounting import Accounting
from steelyard.bootstrap.counting import counters
from steelyard.bootstrap.delivery import Delivery
from steelyard.bootstrap.registry import check_registry

if TYPE_CHECKING:
    from steelyard.services.audits import Audits
    from steelyard.services.cards import Cards
    from steelyard.services.choosing import Choosing
    from steelyard.services.comparisons import Comparisons
    from steelyard.services.lineages import Lineages
    from steelyard.services.monitoring import Monitoring
    from steelyard.services.retention import Retention


@dataclass(frozen=True)
class Platform(Accounting, Delivery):
    """Every use case on the configured stores. Opening one migrates the database."""

    @cached_property
    def comparisons(self) -> "Comparisons":
        """Versions of a model side by side."""
        from steelyard.services.comparisons import Comparisons

        return Comparisons(
            self.registry, self.gates, self.catalog, self.clock, self.settings.price_sku
        )

    @cached_property
    def choosing(self) -> "Choosing":
        """Which variant to serve, or to make."""
        from steelyard.services.choosing import Choosing

        return Choosing(
            self.registry, self.gates, self.statements, self.reports, self.catalog, self.clock,
            self.settings.price_sku,
        )  # fmt: skip

    @cached_property
    def lineages(self) -> "Lineages":
        """What descended from what."""
        from steelyard.adapters.sql.evidence import EvidenceStore
        from steelyard.services.lineages import Lineages

        return Lineages(self.registry, self.catalog, EvidenceStore(self.engine))

    @cached_property
    def cards(self) -> "Cards":
        """Model cards, and the pages of runs that they are published on."""
        from steelyard.adapters.mlflow_run_pages import MlflowRunPages
        from steelyard.adapters.sql.runs import RunStore
        from steelyard.services.cards import Cards

        pages = MlflowRunPages(self.settings.registry_uri)
        return Cards(
            self.registry, self.gates, self.statements, self.reports, RunStore(self.engine), pages
        )

    @cached_property
    def monitoring(self) -> "Monitoring":
        """What Prometheus is told."""
        from steelyard.adapters.spool_state import SpoolState
        from steelyard.services.monitoring import Monitoring

        return Monitoring(
            counters(self.settings), SpoolState(self.settings.spool_dir), self.rollout_store,
            self.reports, self.facts, self.budgets, self.clock,
        )  # fmt: skip

    @cached_property
    def audits(self) -> "Audits":
        """Traces and verification."""
        from steelyard.services.audits import Audits

        return Audits(
            self.predictions, self.rollout_store, self.catalog, self.ledger, self.clock,
            self.settings.price_sku,
        )  # fmt: skip

    @cached_property
    def retention(self) -> "Retention":
        """Erasing predictions that their model's policy does not let be kept any longer."""
        from steelyard.adapters.sql.erasures import ErasureStore
        from steelyard.services.retention import Retention

        def days() -> dict[str, int]:
            return {name: one.retention_days for name, one in self.policies.current().items()}

        return Retention(ErasureStore(self.engine), days, self.clock)

    def learn_versions(self) -> None:
        """Copy what reports need of every registered version.

        Raises:
            Unavailable: the registry does not answer; asked first, because its client would try
                for minutes.
        """
        check_registry(self.settings)
        known = {(v["model"], v["version"]) for v in self.catalog.versions()}
        for model in self.registry.models():
            for version in self.registry.versions(model):
                if (model, version.version) not in known:
                    self.catalog.record_version(version)
                    self.gates.learn(version)
