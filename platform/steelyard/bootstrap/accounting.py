"""Keeping the books: from what was measured to reports, budgets and files."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from steelyard.bootstrap.stores import Stores

if TYPE_CHECKING:
    from steelyard.domain.energy import LoadModel
    from steelyard.services.books import Books
    from steelyard.services.budgets import Budgets
    from steelyard.services.catalogs import Catalogs
    from steelyard.services.estimates import Estimates
    from steelyard.services.exports import Exports
    from steelyard.services.metering import Metering
    from steelyard.services.outlooks import Outlooks
    from steelyard.services.run_account import RunAccounts
    from steelyard.services.statements import Statements
    from steelyard.services.witness import Witnessing


@dataclass(frozen=True)
class Accounting(Stores):
    """The use cases of the ledger."""

    @cached_property
    def catalogs(self) -> "Catalogs":
        """Declaring prices and coefficients; what was known when."""
        from steelyard.services.catalogs import Catalogs

        return Catalogs(self.catalog, self.clock)

    def check_region(self) -> None:
        """Refuse settings whose carbon nobody could tell, unless they say that it may be unknown.

        Raises:
            InvalidInput: the region has no grid intensity and ``unknown_region`` is ``error``.
        """
        if self.settings.unknown_region == "error":
            self.catalogs.check_region(self.settings.region)

    @cached_property
    def device_power(self) -> "LoadModel | None":
        """The declared power of the device that the settings name; None when none is."""
        catalog = self.catalog  # a new one gets its rows now, and only later ones know them
        now = self.clock.now_us()
        return catalog.rate_book(now).load_model(self.settings.device_model, now)

    @cached_property
    def metering(self) -> "Metering":
        """Spool to facts."""
        from steelyard.adapters.spool import SpoolFolder
        from steelyard.services.metering import Metering

        return Metering(self.facts, SpoolFolder(self.settings.spool_dir), self.clock)

    @cached_property
    def books(self) -> "Books":
        """Windows to entries; corrections, closing."""
        from steelyard.services.books import Books

        self.check_region()
        return Books(self.facts, self.ledger, self.periods, self.catalog, self.clock)

    @cached_property
    def statements(self) -> "Statements":
        """Reports."""
        from steelyard.services.statements import Statements

        return Statements(
            self.reports, self.ledger, self.catalog, self.budget_store, self.clock
        )  # fmt: skip

    @cached_property
    def runs(self) -> "RunAccounts":
        """What single runs cost."""
        from steelyard.adapters.sql.runs import RunStore
        from steelyard.services.run_account import RunAccounts

        return RunAccounts(RunStore(self.engine), self.reports)

    @cached_property
    def outlooks(self) -> "Outlooks":
        """Forecasts."""
        from steelyard.services.outlooks import Outlooks

        return Outlooks(self.reports, self.budget_store, self.clock)

    @cached_property
    def budgets(self) -> "Budgets":
        """Limits, and who owns which model."""
        from steelyard.services.budgets import Budgets

        return Budgets(self.budget_store, self.outlooks, self.clock)

    @cached_property
    def estimates(self) -> "Estimates":
        """What a planned training run will cost."""
        from steelyard.adapters.sql.past_runs import PastRunStore
        from steelyard.services.estimates import Estimates

        return Estimates(PastRunStore(self.engine), self.catalog, self.budgets, self.clock)

    @cached_property
    def exports(self) -> "Exports":
        """The books as files."""
        from steelyard.adapters.sql.charges import ChargeStore
        from steelyard.adapters.tabular_files import write_table
        from steelyard.domain.focus import Parties
        from steelyard.services.exports import Exports

        chosen = self.settings
        parties = Parties(
            chosen.focus_invoice_issuer, chosen.focus_billing_account_id,
            chosen.focus_billing_account_name, chosen.focus_service_provider,
            chosen.focus_host_provider,
        )  # fmt: skip
        return Exports(
            ChargeStore(self.engine), self.ledger, self.catalog, self.facts, self.budget_store,
            self.clock, write_table, parties,
        )  # fmt: skip

    @cached_property
    def witnessing(self) -> "Witnessing":
        """The ledger's heads and closed months, published in the registry."""
        from steelyard.adapters.mlflow_witness import MlflowWitness
        from steelyard.adapters.sql.anchors import AnchorStore
        from steelyard.services.witness import Witnessing

        artifacts = None if self.settings.mlflow_uri else self.settings.artifact_root
        witness = MlflowWitness(
            self.settings.registry_uri, self.settings.witness_experiment, artifacts
        )
        return Witnessing(witness, AnchorStore(self.engine))
