"""Model cards: what registry, ledger and tracker know of a version, put together."""

from hashlib import sha256
from typing import TYPE_CHECKING

from steelyard.domain.errors import NotFound
from steelyard.domain.gates import judge
from steelyard.domain.measures import Measures, by_tier
from steelyard.domain.model_card import Card, Making, Recipe
from steelyard.domain.model_version import ModelVersion
from steelyard.services import words
from steelyard.services.gates import Gates
from steelyard.services.statements import Statements

if TYPE_CHECKING:
    from steelyard.adapters.sql.reports import ReportStore
    from steelyard.adapters.sql.runs import RunStore
    from steelyard.ports.registry import Registry
    from steelyard.ports.run_pages import RunPages
    from steelyard.services.accounts import VersionStatement

FILE = "README.md"
"""What a published card is called among the files of the version's run."""


class Cards:
    """The use case of describing a version."""

    def __init__(
        self, registry: "Registry", gates: Gates, statements: Statements, reports: "ReportStore",
        runs: "RunStore", pages: "RunPages",
    ) -> None:  # fmt: skip
        self._registry = registry
        self._gates = gates
        self._statements = statements
        self._reports = reports
        self._runs = runs
        self._pages = pages

    def card(self, model: str, version: int) -> Card:
        """Everything that is known of a version now.

        Raises:
            NotFound: there is no such version.
            Unavailable: the registry does not answer.
        """
        found = self._registry.version(model, version)
        standing = self._gates.standing(found)
        evidence = standing.record.evidence if standing.record else None
        statement = self._statements.model(model)
        line = next((v for v in statement.versions if v.version == version), None)
        policy, here = self._gates.policy(model), self._gates.here(found)
        return Card(
            found, standing.record, standing.state, standing.why,
            judge(policy, evidence, here, found.parent is not None),
            Making(Measures()) if line is None else self._making(found, line),
            statement.as_of_us, statement.ledger_seq, statement.ledger_hash,
            self._parent_gone(found), self._recipe(found),
        )  # fmt: skip

    def publish(self, version: ModelVersion, text: str) -> None:
        """Keep a card's text with the run of its version, in place of an earlier one.

        Raises:
            NotFound: the run is not in the tracker.
            Unavailable: the tracker does not answer.
        """
        self._pages.keep(version.run_id, FILE, text)

    def _making(self, version: ModelVersion, line: "VersionStatement") -> Making:
        amounts = [a for a in self._reports.by_version(version.model)
                   if a.version == version.version and a.phase == "training"]  # fmt: skip
        runs = {c.run_id for c in line.compute if c.phase == "training" and c.run_id}
        above = line.upstream
        return Making(
            line.training, by_tier(amounts),
            tuple(self._runs.machines(version.model, runs | {version.run_id})),
            above.ancestors if above else (),
            above.training if above and above.ancestors else None, tuple(words.pay_backs(line)),
        )  # fmt: skip

    def _parent_gone(self, version: ModelVersion) -> bool:
        if version.parent is None:
            return False
        try:
            self._registry.version(version.model, version.parent)
        except NotFound:
            return True
        return False

    def _recipe(self, version: ModelVersion) -> Recipe | None:
        """A variant's recipe, if it is the one it was made by; a trained version's workflow."""
        if version.parent is None:
            text = self._pages.text(version.run_id, "workflow.yaml")
            return None if text is None else Recipe("yaml", text)
        text = self._pages.text(version.run_id, "recipe.json")
        if text is None or sha256(text.encode()).hexdigest() != version.recipe_sha256:
            return None
        return Recipe("json", text)
