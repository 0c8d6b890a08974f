"""Bringing versions to those who ask, and taking them back."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from steelyard.bootstrap.counting import counters
from steelyard.bootstrap.runtimes import hardware_profile
from steelyard.bootstrap.stores import Stores

if TYPE_CHECKING:
    from steelyard.services.aliases import Aliases
    from steelyard.services.auto_rollouts import AutoRollouts
    from steelyard.services.deletions import Deletions
    from steelyard.services.drift import Drifts
    from steelyard.services.explanations import Explanations
    from steelyard.services.gates import Gates
    from steelyard.services.keys import Keys
    from steelyard.services.labels import Labels
    from steelyard.services.operations import Operations
    from steelyard.services.policies import Policies
    from steelyard.services.rehearsals import Rehearsals
    from steelyard.services.rollout_evidence import Evidences
    from steelyard.services.rollouts import Rollouts
    from steelyard.services.served_versions import ServedVersions
    from steelyard.services.serving_status import ServingStatus


@dataclass(frozen=True)
class Delivery(Stores):
    """The use cases of rollouts and of serving."""

    @cached_property
    def gates(self) -> "Gates":
        """Evidence of versions and what is asked of them, on this machine's hardware."""
        from steelyard.adapters.sql.evidence import EvidenceStore
        from steelyard.services.gates import Gates

        store = EvidenceStore(self.engine)
        return Gates(store, self.registry, self.clock, hardware_profile)

    @cached_property
    def served_versions(self) -> "ServedVersions":
        """Versions that serve or did, and their files."""
        from steelyard.adapters.sql.served_versions import ServedVersionStore
        from steelyard.services.served_versions import ServedVersions

        store = ServedVersionStore(self.engine)
        return ServedVersions(store, self.registry, self.clock, self.settings.cache_dir)

    @cached_property
    def rollouts(self) -> "Rollouts":
        """Progressive delivery."""
        from steelyard.services.rollouts import Rollouts

        return Rollouts(
            self.rollout_store, self.arms, self.registry, self.gates, self.clock,
            self.served_versions,
        )  # fmt: skip

    @cached_property
    def rollout_evidence(self) -> "Evidences":
        """What is known of a rollout's candidate."""
        from steelyard.services.rollout_evidence import Evidences

        return Evidences(self.rollout_store, self.arms)

    @cached_property
    def rehearsals(self) -> "Rehearsals":
        """What carrying out a plan would take."""
        from steelyard.adapters.sql.served_time import ServedTimeStore
        from steelyard.domain.rehearsal import Reaction
        from steelyard.services.rehearsals import ACKNOWLEDGE_S, Device, Rehearsals

        chosen = self.settings
        reaction = Reaction(chosen.settle_s, chosen.tick_s, ACKNOWLEDGE_S)
        device = Device(chosen.device_model, chosen.price_sku, chosen.region or None, reaction)
        return Rehearsals(
            self.predictions, ServedTimeStore(self.engine), self.catalog, self.policies, self.clock,
            device,
        )  # fmt: skip

    @cached_property
    def explanations(self) -> "Explanations":
        """Which evidence led to which decision."""
        from steelyard.services.explanations import Explanations

        return Explanations(self.rollout_store)

    @cached_property
    def aliases(self) -> "Aliases":
        """The registry's aliases beside our history."""
        from steelyard.adapters.sql.aliases import AliasStore
        from steelyard.services.aliases import Aliases

        return Aliases(AliasStore(self.engine), self.rollout_store, self.registry, self.clock)

    @cached_property
    def drifts(self) -> "Drifts":
        """What is done about aliases that others moved."""
        from steelyard.services.drift import Drifts

        return Drifts(self.aliases, self.rollouts, self.registry, self.clock)

    @cached_property
    def policies(self) -> "Policies":
        """How models answer while they serve."""
        from steelyard.adapters.sql.serving_policies import ServingPolicyStore
        from steelyard.services.policies import Policies

        fields = self.settings.unit_fields.split(",")
        return Policies(ServingPolicyStore(self.engine), self.registry, self.clock, fields)

    @cached_property
    def operations(self) -> "Operations":
        """Shadows, and versions that are taken out of service."""
        from steelyard.services.operations import Operations

        return Operations(
            self.operation_store, self.rollouts, self.registry, self.gates, self.clock
        )

    @cached_property
    def deletions(self) -> "Deletions":
        """Taking versions out of the registry."""
        from steelyard.adapters.sql.deletions import DeletionStore
        from steelyard.services.deletions import Deletions

        return Deletions(
            DeletionStore(self.engine), self.rollout_store, self.operations, self.policies,
            self.registry, self.catalog, self.clock,
        )  # fmt: skip

    @cached_property
    def auto_rollouts(self) -> "AutoRollouts":
        """Compressed variants that roll out by themselves."""
        from steelyard.adapters.sql.auto_rollouts import AutoRolloutStore
        from steelyard.services.auto_rollouts import AutoRollouts

        return AutoRollouts(
            AutoRolloutStore(self.engine), self.rollouts, self.aliases, self.gates, self.registry,
            self.catalog, self.clock,
        )  # fmt: skip

    @cached_property
    def labels(self) -> "Labels":
        """What was true, when it is known."""
        from steelyard.adapters.sql.labels import LabelStore
        from steelyard.services.labels import Labels

        return Labels(LabelStore(self.engine), self.clock)

    @cached_property
    def keys(self) -> "Keys":
        """Who may ask models."""
        from steelyard.adapters.sql.api_keys import ApiKeyStore
        from steelyard.services.keys import Keys

        return Keys(ApiKeyStore(self.engine), self.registry, self.clock)

    @cached_property
    def serving_status(self) -> "ServingStatus":
        """How each version serves right now."""
        from steelyard.adapters.process_memory import unique_bytes
        from steelyard.services.serving_status import ServingStatus

        return ServingStatus(
            self.rollout_store, self.operations, self.operation_store, self.policies,
            counters(self.settings), unique_bytes, self.clock,
        )  # fmt: skip
