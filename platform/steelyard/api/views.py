"""What the pages show, as frozen values: the same ones become HTML, JSON and CSV."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from steelyard.api.evidence import Evidence
from steelyard.api.rollout_views import BesideView, RolloutView, arms, steps
from steelyard.bootstrap import Platform
from steelyard.domain.allocation import round_half_even
from steelyard.domain.analysis import Verdict
from steelyard.domain.break_even import BreakEven
from steelyard.domain.errors import NotFound
from steelyard.domain.measures import plus
from steelyard.domain.model_version import ModelVersion
from steelyard.domain.promotion import stable_version
from steelyard.domain.rollout import Rollout
from steelyard.domain.span import Span, span_of, today
from steelyard.services.accounts import Brief, ModelStatement, VersionStatement
from steelyard.services.audits import Trace
from steelyard.services.budgets import BudgetLine
from steelyard.services.gates import Standing
from steelyard.services.outlooks import ForecastLine, Measure, Scope


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One model in the list. ``inference_nano`` includes idle time; None: not known.

    ``beside`` counts the other candidates that are rolled out with ``candidate``.
    """

    model: str
    stable: int | None
    candidate: int | None
    weight_bp: int | None
    condition: str | None
    training_nano: int | None
    inference_nano: int | None
    requests: int
    break_even: BreakEven
    beside: int = 0


@dataclass(frozen=True, slots=True)
class VersionView:
    """One version: its account, and what the registry vouches for.

    ``per_1000_direct_nano`` is direct use, ``per_1000_nano`` includes the time its replicas
    waited. ``account`` is None for a version that the ledger does not know yet, ``registered``
    and ``evidence`` for one that the registry does not show. ``evidence`` is the record that
    counts, which may be newer than the one in ``registered``, and whether it holds here.
    """

    version: int | None
    champion: bool
    account: VersionStatement | None
    registered: ModelVersion | None
    per_1000_direct_nano: int | None
    per_1000_nano: int | None
    evidence: Standing | None = None


@dataclass(frozen=True, slots=True)
class ModelView:
    """Everything about a model. ``registry_answered``: whether evidence could be looked up.

    ``forecast`` is of cost, energy and carbon; ``budgets`` are the model's and its team's.
    """

    statement: ModelStatement
    versions: tuple[VersionView, ...]
    registry_answered: bool
    rollout: RolloutView
    forecast: tuple[ForecastLine, ...] = ()
    budgets: tuple[BudgetLine, ...] = ()


FORECAST: tuple[Measure, ...] = ("cost_nano", "energy_mj", "carbon_ug")


class Views:
    """Reads the platform for the pages; changes nothing."""

    def __init__(self, platform: Platform, evidence: Evidence) -> None:
        self._platform = platform
        self._evidence = evidence

    def index(self) -> list[IndexRow]:
        """Every model that was registered, charged or deployed."""
        briefs = {brief.model: brief for brief in self._platform.statements.briefs()}
        unknown = Brief("", None, None, 0, BreakEven(None, None, crossed=False))
        return [self._index_row(m, briefs.get(m, unknown)) for m in self._models()]

    def span(self, first: str | None, last: str | None, period: str | None) -> Span | None:
        """The days that a visitor asked for; None is everything. Raises InvalidInput."""
        present = today(self._platform.clock.now_us())
        return span_of(first or None, last or None, period or None, present)

    def model(self, model: str, span: Span | None = None) -> ModelView:
        """One model.

        Raises:
            NotFound: nobody registered, charged or deployed a model of this name.
        """
        self._must_exist(model)
        statement = self._platform.statements.model(model, span)
        registered = self._evidence.versions(model)
        rollout = self.rollout(model)
        standings = {v.version: self._platform.gates.standing(v) for v in registered or ()}
        versions = version_views(statement, registered or (), rollout.stable, standings)
        forecast, budgets = self._ahead(statement)
        return ModelView(statement, versions, registered is not None, rollout, forecast, budgets)

    def _ahead(
        self, statement: ModelStatement
    ) -> tuple[tuple[ForecastLine, ...], tuple[BudgetLine, ...]]:
        if statement.model not in self._platform.reports.models():
            return (), ()  # never charged
        scope = Scope("model", statement.model)
        lines = self._platform.outlooks.forecast(scope, measures=FORECAST)
        budgets = self._platform.budgets.lines(scope)
        if statement.team is not None:
            budgets += self._platform.budgets.lines(Scope("team", statement.team))
        return tuple(lines), tuple(budgets)

    def rollout(self, model: str) -> RolloutView:
        """How the rollout of a model moves.

        Raises:
            NotFound: there is no such model.
        """
        self._must_exist(model)
        store = self._platform.rollout_store
        promotions = tuple(store.promotions(model))
        stable = stable_version(promotions)
        found = store.open_rollouts(model) or store.rollouts(model, limit=1)
        drifts = tuple(self._platform.aliases.standing(model))
        if not found:
            return RolloutView(model, stable, None, (), (), (), (), promotions, drifts)
        rollout, *beside = [stored.rollout for stored in found]
        running = {a["version"]: a for a in store.applications.published() if a["model"] == model}
        counts = self._platform.predictions.counts(model, rollout.created_us)
        return RolloutView(
            model, stable, rollout, steps(rollout),
            arms(rollout, stable, counts, running, beside),
            self._verdicts(rollout), tuple(store.events(rollout.rollout_id)), promotions, drifts,
            tuple(BesideView(one, self._verdicts(one)) for one in beside),
        )  # fmt: skip

    def prediction(self, prediction_id: str) -> Trace:
        """Everything behind one prediction. Raises NotFound."""
        return self._platform.audits.trace(prediction_id)

    def _models(self) -> list[str]:
        deployed = self._platform.rollout_store.models()
        return sorted({*self._platform.statements.models(), *deployed})

    def _must_exist(self, model: str) -> None:
        if model in self._platform.rollout_store.models():
            return  # cheap, and the rollout part asks every two seconds
        known = self._models()
        if model not in known:
            hint = f"Known: {', '.join(known)}." if known else "Train one: steelyard train."
            raise NotFound(f"There is no model {model!r}.", hint)

    def _index_row(self, model: str, brief: Brief) -> IndexRow:
        opened = self._platform.rollout_store.open_rollouts(model)
        rollout = opened[0].rollout if opened else None
        history = self._platform.rollout_store.promotions(model)
        return IndexRow(
            model=model,
            stable=stable_version(history),
            candidate=rollout.candidate if rollout else None,
            weight_bp=rollout.weight_bp if rollout else None,
            condition=rollout.condition if rollout else None,
            training_nano=brief.training_nano, inference_nano=brief.inference_nano,
            requests=brief.requests, break_even=brief.break_even, beside=len(opened[1:]),
        )  # fmt: skip

    def _verdicts(self, rollout: Rollout) -> tuple[Verdict, ...]:
        if rollout.kind != "canary":
            return ()
        return self._platform.rollout_evidence.verdicts(rollout)


def per_1000(cost_nano: int | None, requests: int) -> int | None:
    """Cost of a thousand requests; None without requests or without a cost.

    >>> per_1000(500, 250), per_1000(None, 10), per_1000(500, 0)
    (2000, None, None)
    """
    if cost_nano is None or not requests:
        return None
    return round_half_even(Fraction(cost_nano * 1000, requests))


def version_views(
    statement: ModelStatement, registered: Sequence[ModelVersion], stable: int | None,
    standings: Mapping[int, Standing],
) -> tuple[VersionView, ...]:  # fmt: skip
    """Every version that the ledger or the registry knows; runs without a version come last."""
    accounts = {v.version: v for v in statement.versions}
    known = {v.version: v for v in registered}
    numbers = sorted({*(n for n in accounts if n is not None), *known})
    views = []
    for number in [*numbers, None] if None in accounts else numbers:
        account = accounts.get(number)
        direct = account.serving.cost_nano if account else None
        full = plus(direct, account.idle.cost_nano) if account else None
        requests = account.traffic.requests if account else 0
        views.append(
            VersionView(
                number, number is not None and number == stable, account,
                known.get(number) if number is not None else None,
                per_1000(direct, requests), per_1000(full, requests),
                standings.get(number) if number is not None else None,
            )
        )  # fmt: skip
    return tuple(views)
