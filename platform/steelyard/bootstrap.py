"""The composition root: the only file that picks adapters.

Imports are inside functions, because a replica opens a producer and must not load SQLAlchemy or
MLflow for it.
"""

import logging
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from steelyard.domain.errors import Refused, Unavailable
from steelyard.domain.model_files import KINDS
from steelyard.domain.model_version import ONNXRUNTIME, OPENVINO, SERVED_BY, TORCH
from steelyard.domain.pin import PIN_KEY_FILE
from steelyard.domain.supervision import Probe, ProcessSpec
from steelyard.settings import Settings

if TYPE_CHECKING:
    import ssl

    from sqlalchemy import Engine

    from steelyard.adapters.counter_files import CounterFile, CounterFolder
    from steelyard.adapters.power.board import Board, EnergyAccount
    from steelyard.adapters.power.claim import NodeClaim
    from steelyard.adapters.power.processes import Node
    from steelyard.adapters.spool import Producer
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
    from steelyard.adapters.supervisor import Supervisor
    from steelyard.adapters.system_clock import SystemClock
    from steelyard.domain.energy import LoadModel
    from steelyard.domain.key_counters import Asked
    from steelyard.domain.model_version import ModelVersion
    from steelyard.domain.serving_counters import Served
    from steelyard.ports.model_session import ModelSession
    from steelyard.ports.power_meter import PowerMeter
    from steelyard.ports.registry import Registry
    from steelyard.services.aliases import Aliases
    from steelyard.services.audits import Audits
    from steelyard.services.auto_rollouts import AutoRollouts
    from steelyard.services.books import Books
    from steelyard.services.budgets import Budgets
    from steelyard.services.cards import Cards
    from steelyard.services.catalogs import Catalogs
    from steelyard.services.choosing import Choosing
    from steelyard.services.comparisons import Comparisons
    from steelyard.services.deletions import Deletions
    from steelyard.services.drift import Drifts
    from steelyard.services.estimates import Estimates
    from steelyard.services.explanations import Explanations
    from steelyard.services.exports import Exports
    from steelyard.services.gates import Gates
    from steelyard.services.keys import Keys
    from steelyard.services.labels import Labels
    from steelyard.services.lineages import Lineages
    from steelyard.services.metering import Metering
    from steelyard.services.monitoring import Monitoring
    from steelyard.services.operations import Operations
    from steelyard.services.outlooks import Outlooks
    from steelyard.services.policies import Policies
    from steelyard.services.rehearsals import Rehearsals
    from steelyard.services.retention import Retention
    from steelyard.services.rollout_evidence import Evidences
    from steelyard.services.rollouts import Rollouts
    from steelyard.services.run_account import RunAccounts
    from steelyard.services.served_versions import ServedVersions
    from steelyard.services.serving_status import ServingStatus
    from steelyard.services.statements import Statements
    from steelyard.services.witness import Witnessing

log = logging.getLogger("steelyard.bootstrap")

EXTRA_OF = {ONNXRUNTIME: "serving", OPENVINO: "openvino", TORCH: "torch"}
"""The extra of this distribution that brings a runtime."""
ARCHITECTURES = "steelyard.architectures"
"""Entry points that make a network from hyper-parameters: the only code that weights get."""


def producer(settings: Settings, producer_id: str) -> "Producer":
    """A writer of facts into this machine's spool."""
    from steelyard.adapters.spool import Producer

    return Producer(settings.spool_dir, producer_id)


def counter_file(settings: Settings, boot: str, served: "Served") -> "CounterFile":
    """The counters of a replica, which is this process."""
    from steelyard.adapters.counter_files import CounterFile

    return CounterFile(settings.counter_dir, boot, served)


def counters(settings: Settings) -> "CounterFolder":
    """What the replicas of this machine counted."""
    from steelyard.adapters.counter_files import CounterFolder

    return CounterFolder(settings.counter_dir)


def keys_asked(settings: Settings, now_us: int) -> "dict[str, Asked]":
    """What each key asked this machine's replicas, by its id."""
    from steelyard.adapters.key_counter_files import read_asked

    return read_asked(settings.run_dir / "quota", now_us)


def replica_log_files(settings: Settings, model: str, version: int | None) -> list[Path]:
    """What replicas of a version, or of every version of a model, logged on this machine."""
    from steelyard.adapters.replica_logs import replica_files

    pids = [one.pid for one in counters(settings).living()
            if one.served.model == model and version in (None, one.served.version)]  # fmt: skip
    application = f"{model}-v{'[0-9]*' if version is None else version}"
    return replica_files(settings.ray_temp_dir / "session_latest", application, pids)


def log_tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log."""
    from steelyard.adapters.replica_logs import tail

    return tail(path, lines)


def follow_logs(
    paths: "Sequence[Path]", lines: int
) -> "Generator[tuple[Path, str], None, None]":  # fmt: skip
    """The last lines of each log, then lines as they come to any of them, without end."""
    from steelyard.adapters.replica_logs import follow

    return follow(paths, lines)


def energy_account(settings: Settings, pids: Iterable[int]) -> "EnergyAccount":
    """The metered energy of the processes with these ids on this node; unknown without a meter."""
    from steelyard.adapters.power.board import EnergyAccount

    return EnergyAccount(settings.power_dir, pids)


def power_meter(settings: Settings) -> "PowerMeter":
    """Every energy counter of this node; its ``about`` says what there is."""
    from steelyard.adapters.power.board import monotonic_us
    from steelyard.adapters.power.joined import JoinedMeter
    from steelyard.adapters.power.nvml import open_meter
    from steelyard.adapters.power.rapl import RaplMeter

    return JoinedMeter([RaplMeter(Path(settings.powercap_root)), open_meter(monotonic_us)])


def metered_node(meter: "PowerMeter") -> "Node":
    """This node's counters and CPU time."""
    from steelyard.adapters.power.board import monotonic_us
    from steelyard.adapters.power.processes import Node

    return Node(meter, monotonic_us)


def power_board(settings: Settings, meter: "PowerMeter") -> "Board":
    """Where a meter tells processes what they used."""
    from steelyard.adapters.power.board import Board

    return Board(settings.power_dir, meter.about, int(settings.reading_interval_s * 1e6))


def node_claim(settings: Settings, meter: "PowerMeter") -> "NodeClaim":
    """The right to book what a meter reads; of all processes on the node one has it."""
    from steelyard.adapters.power.claim import NodeClaim, places

    return NodeClaim(places(meter.boundary, Path(settings.powercap_root)))


def runtime_session(runtime: str, data: bytes) -> "ModelSession":
    """A file's bytes, ready to run as every replica of that runtime runs them.

    Raises:
        Refused: they are no file of the runtime's kind or reach outside of it, no replica runs
            this, or the library is not installed here.
    """
    opened = session_class(runtime)
    KINDS[SERVED_BY[runtime]](data)
    return opened(data)


def session_class(runtime: str) -> "type[ModelSession]":
    """What opens bytes in a runtime; its library is imported, without what reports to its makers.

    Raises:
        Refused: no replica runs this, or the library is not installed here.
    """
    if runtime not in SERVED_BY:
        raise Refused(f"No replica runs {runtime}.")
    try:
        if runtime == ONNXRUNTIME:
            from steelyard.adapters.onnx_session import OnnxSession

            return OnnxSession
        if runtime == OPENVINO:
            from steelyard.adapters.openvino_session import OpenVinoSession

            return OpenVinoSession
        # The platform itself installs without torch, so what needs it is another package's.
        for point in entry_points(group="steelyard.runtimes", name=runtime):
            found: type[ModelSession] = point.load()
            return found
        raise ModuleNotFoundError(runtime)  # installed before there was such an entry point
    except ModuleNotFoundError as error:
        raise Refused(
            f"{runtime} is not installed here, and nothing else may run this file.",
            f'pip install "steelyard[{EXTRA_OF[runtime]}]" in this environment.',
        ) from error


def architecture(name: str) -> "Callable[..., Any]":
    """What makes a network of a registered architecture from its hyper-parameters.

    Raises:
        Refused: nobody registered it here, or what it needs is not installed.
    """
    for point in entry_points(group=ARCHITECTURES, name=name):
        try:
            made: Callable[..., Any] = point.load()
        except ImportError as error:
            raise Refused(f"The architecture {name} does not load here: {error}.") from error
        return made
    known = ", ".join(sorted(entry_points(group=ARCHITECTURES).names)) or "none"
    raise Refused(
        f"The architecture {name[:100]!r} is not registered here; registered: {known}.",
        f"Install the distribution that has it among its entry points {ARCHITECTURES}.",
    )


def architecture_of(network: type) -> str | None:
    """Under which name a network's class is registered here, if it is."""
    place = f"{network.__module__}:{network.__qualname__}"
    points = entry_points(group=ARCHITECTURES)
    return next((point.name for point in points if point.value == place), None)


def edge_trust(settings: Settings) -> "ssl.SSLContext | bool":
    """What a client on this machine verifies the edge with: its own certificate, if it has one.

    Raises:
        Unavailable: the certificate cannot be read.
    """
    from steelyard.adapters.tls import pinned

    return pinned(Path(settings.tls_certificate)) if settings.tls_certificate else True


def hardware_profile(runtime: str = ONNXRUNTIME) -> dict[str, str]:
    """What this machine is, as far as it decides how fast a model runs by ``runtime``."""
    from steelyard.adapters.hardware import hardware_profile

    return hardware_profile(runtime)


def energy_source(settings: Settings) -> str:
    """One line for people: which meter works for this platform, or why none does."""
    from steelyard.adapters.power.board import meter_state

    state = meter_state(settings.power_dir)
    if state is None:
        return f"not metered: {power_meter(settings).about}"
    if not state.metering:
        return f"not metered: another platform meters this node with {state.about}"
    return f"metered: {state.about}"


def registry(settings: Settings) -> "Registry":
    """The model registry."""
    from steelyard.adapters.mlflow_registry import MlflowRegistry

    return MlflowRegistry(settings.registry_uri)


def keep_evidence(settings: Settings, version: "ModelVersion") -> None:
    """Copy a new version's evidence into the ledger, which keeps the registry honest."""
    try:
        Platform(settings).gates.learn(version)
    except Unavailable as error:  # it is copied when the ledger next looks at the registry
        log.warning("%s", error)


def device_power(settings: Settings) -> "LoadModel | None":
    """The declared power of the settings' device; None when none is declared."""
    return Platform(settings).device_power


def check_operator(settings: Settings) -> None:
    """Refuse whoever cannot read the key that the API asks of those who write.

    Raises:
        Refused: there is no key, or this user may not read it.
    """
    path = settings.secret_dir / "api.token"
    try:
        key = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise Refused(
            f"Only an operator may do this: the key {path} cannot be read ({error.strerror}).",
            "`steelyard up` makes it; whoever may read it is an operator.",
        ) from error
    if not key:
        raise Refused(f"Only an operator may do this: the key {path} is empty.")


def pin_key(settings: Settings) -> bytes:
    """The operators' key that pins are made with.

    Raises:
        Refused: there is none yet, or this user may not read it.
    """
    path = settings.secret_dir / PIN_KEY_FILE
    try:
        return bytes.fromhex(path.read_text(encoding="ascii"))
    except OSError as error:
        raise Refused(
            f"Only an operator may pin: the key {path} cannot be read ({error.strerror}).",
            "`steelyard up` makes it; whoever may read it is an operator.",
        ) from error


def check_registry(settings: Settings) -> None:
    """Ask the registry once whether it answers.

    Raises:
        Unavailable: nobody does; its own client would go on trying for minutes.
    """
    from steelyard.adapters.mlflow_answers import check_answers

    check_answers(settings.registry_uri)


def collect(settings: Settings) -> None:
    """Move what was measured on this machine into the ledger; may be repeated at any time."""
    platform = Platform(settings)
    try:
        platform.learn_versions()
    except Unavailable as error:  # posting does not wait for it; its versions are learned later
        log.warning("%s", error)
    platform.metering.collect()
    platform.books.post()
    platform.witnessing.publish().tell(log)


def check_region(settings: Settings) -> None:
    """Refuse a region without grid intensity before work starts that its carbon is asked of."""
    if settings.region and settings.unknown_region == "error":
        Platform(settings).check_region()


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
    specs = [*node_meter_process(settings), api_process(settings)]
    if not settings.mlflow_uri:
        specs.append(mlflow_process(settings))
    for point in sorted(entry_points(group="steelyard.processes"), key=lambda p: p.name):
        specs += point.load()(settings)
    return specs


def node_meter_process(settings: Settings) -> list[ProcessSpec]:
    """The energy meter, where there is something to read; first, so that it stops last."""
    if not power_meter(settings).boundary:
        return []
    command = (sys.executable, "-m", "steelyard.node_meter")
    return [ProcessSpec("node_meter", command, settings.as_environment())]


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


def label_rows(file: Path) -> "Iterator[Mapping[str, Any]]":
    """The rows of a table of labels. Raises InvalidInput where it is none."""
    from steelyard.adapters.label_files import read_rows

    return read_rows(file)


def sent_label_rows(table: IO[bytes], suffix: str) -> "Iterator[Mapping[str, Any]]":
    """The same of a table that was sent, of the kind that a file of this suffix has."""
    from steelyard.adapters.label_files import rows_of

    return rows_of(table, suffix, "body")


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
    def rollouts(self) -> "Rollouts":
        """Progressive delivery."""
        from steelyard.services.rollouts import Rollouts

        return Rollouts(
            self.rollout_store, self.arms, self.registry, self.gates, self.clock,
            self.served_versions,
        )  # fmt: skip

    @cached_property
    def served_versions(self) -> "ServedVersions":
        """Versions that serve or did, and their files."""
        from steelyard.adapters.sql.served_versions import ServedVersionStore
        from steelyard.services.served_versions import ServedVersions

        store = ServedVersionStore(self.engine)
        return ServedVersions(store, self.registry, self.clock, self.settings.cache_dir)

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
    def arms(self) -> "ArmStore":
        """What both arms of a rollout answered."""
        from steelyard.adapters.sql.arms import ArmStore

        return ArmStore(self.engine)

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
    def gates(self) -> "Gates":
        """Evidence of versions and what is asked of them, on this machine's hardware."""
        from steelyard.adapters.sql.evidence import EvidenceStore
        from steelyard.services.gates import Gates

        store = EvidenceStore(self.engine)
        return Gates(store, self.registry, self.clock, hardware_profile)

    @cached_property
    def policies(self) -> "Policies":
        """How models answer while they serve."""
        from steelyard.adapters.sql.serving_policies import ServingPolicyStore
        from steelyard.services.policies import Policies

        fields = self.settings.unit_fields.split(",")
        return Policies(ServingPolicyStore(self.engine), self.registry, self.clock, fields)

    @cached_property
    def keys(self) -> "Keys":
        """Who may ask models."""
        from steelyard.adapters.sql.api_keys import ApiKeyStore
        from steelyard.services.keys import Keys

        return Keys(ApiKeyStore(self.engine), self.registry, self.clock)

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
    def reports(self) -> "ReportStore":
        """Sums of roll-ups."""
        from steelyard.adapters.sql.reports import ReportStore

        return ReportStore(self.engine)

    @cached_property
    def runs(self) -> "RunAccounts":
        """What single runs cost."""
        from steelyard.adapters.sql.runs import RunStore
        from steelyard.services.run_account import RunAccounts

        return RunAccounts(RunStore(self.engine), self.reports)

    @cached_property
    def budget_store(self) -> "BudgetStore":
        """Budgets and the owners of models."""
        from steelyard.adapters.sql.budgets import BudgetStore

        return BudgetStore(self.engine)

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
    def operation_store(self) -> "OperationStore":
        """Shadows and drains."""
        from steelyard.adapters.sql.operations import OperationStore

        return OperationStore(self.engine)

    @cached_property
    def operations(self) -> "Operations":
        """Shadows, and versions that are taken out of service."""
        from steelyard.services.operations import Operations

        return Operations(
            self.operation_store, self.rollouts, self.registry, self.gates, self.clock
        )

    @cached_property
    def serving_status(self) -> "ServingStatus":
        """How each version serves right now."""
        from steelyard.adapters.process_memory import unique_bytes
        from steelyard.services.serving_status import ServingStatus

        return ServingStatus(
            self.rollout_store, self.operations, self.operation_store, self.policies,
            counters(self.settings), unique_bytes, self.clock,
        )  # fmt: skip

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
