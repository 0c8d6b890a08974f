"""Settings, read once: defaults < TOML file < ``STEELYARD_*`` environment.

The defaults are the embedded platform: everything under one home directory on this machine. The
same settings point at PostgreSQL, an MLflow server or a Ray cluster.
"""

import os
import re
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.model_version import MODEL_NAME
from steelyard.domain.unit_key import FIELD

MARKS = (
    "STEELYARD_CONFIG", "STEELYARD_SUPERVISED", "STEELYARD_RUN_MODEL", "STEELYARD_RUN_TEAM",
    "STEELYARD_RUN_OWNER", "STEELYARD_RUN_FOLDER", "STEELYARD_API_KEY",
)  # fmt: skip
"""Variables that are not settings: the TOML file's path, the supervisor's mark, a script's run,
the key that `steelyard predict` shows."""
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+=[\x21-\x7e]*")
LONGEST_SOCKET_PATH = 100
"""Unix sockets hold 107 bytes of path; HAProxy adds a suffix while it binds."""


def _must_be_headers(text: SecretStr) -> SecretStr:
    for pair in filter(None, text.get_secret_value().split(",")):
        if not HEADER.fullmatch(pair.strip()) or not unquote(pair).isprintable():
            raise ValueError("must be NAME=VALUE, with commas between several")
    return text


class Settings(BaseSettings):
    """Every setting, its default and its unit. Frozen: a process reads them once."""

    model_config = SettingsConfigDict(
        env_prefix="STEELYARD_", frozen=True, extra="forbid", validate_default=True
    )

    home: Path = Field(
        default_factory=lambda: Path.home() / ".steelyard",
        description="Where the embedded platform keeps everything.",
    )
    database_url: SecretStr = Field(
        default=SecretStr(""),
        description="SQLAlchemy URL of the ledger; empty: SQLite under the home.",
    )
    mlflow_uri: str = Field(
        default="", description="MLflow tracking and registry URI; empty: SQLite under the home."
    )
    ray_address: str = Field(
        default="", description="Address of a Ray cluster; empty: a local Ray of our own."
    )
    jobs_address: str = Field(
        default="",
        description="Jobs API of a Ray cluster that training is submitted to; empty: train here.",
    )
    litert_python: str = Field(
        default="", description="Python that has litert-torch; empty: no .tflite files are made."
    )
    host: str = Field(default="127.0.0.1", description="Address that the public ports bind to.")
    edge: Literal["", "haproxy", "python"] = Field(
        default="",
        description="What the edge is; empty: HAProxy where its binary is there, else Python.",
    )
    edge_port: int = Field(default=8080, ge=1, le=65535, description="Inference requests.")
    grpc_port: int = Field(
        default=8081, ge=0, le=65535, description="The same over gRPC; 0: not offered."
    )
    api_port: int = Field(default=8090, ge=1, le=65535, description="Dashboard and API.")
    mlflow_port: int = Field(default=8091, ge=1, le=65535, description="MLflow's web pages.")
    ray_port: int = Field(default=8092, ge=1, le=65535, description="Ray's head, loopback.")
    serve_ports_from: int = Field(
        default=31000,
        ge=1024,
        le=64000,
        description="First of 500 loopback ports; each version that is served has one.",
    )
    ray_cpus: int = Field(
        default=8,
        ge=3,
        description="Logical CPUs of the local Ray: training and serving share the real cores.",
    )
    region: str = Field(
        default="", description="Grid region for carbon, e.g. DEU; empty: carbon is unknown."
    )
    unknown_region: Literal["error", "null"] = Field(
        default="error",
        description="A region without grid intensity: refuse to start, or leave carbon unknown.",
    )
    device_model: str = Field(
        default="generic-vcpu", description="Device model that prices, watts and energy refer to."
    )
    price_sku: str = Field(default="vcpu-hour", description="Price book row for a device.")
    meter_interval_s: float = Field(
        default=10.0, gt=0, le=60, description="Seconds between a replica's metering windows."
    )
    powercap_root: str = Field(
        default="/sys/class/powercap",
        description="The kernel's tree of processor energy counters (RAPL).",
    )
    power_interval_s: float = Field(
        default=1.0, ge=0.1, le=60, description="Seconds between two readings of energy counters."
    )
    node_idle_w: float = Field(
        default=0.0,
        ge=0,
        description="Watts of the idle node's processors and memory: energy of no process.",
    )
    tick_s: float = Field(
        default=1.0, gt=0, le=60, description="Seconds between two turns of the controller."
    )
    posting_interval_s: float = Field(
        default=10.0, gt=0, description="Seconds between two postings of windows to the ledger."
    )
    witness_experiment: Name = Field(
        default="steelyard-ledger",
        description="MLflow experiment whose tags keep this ledger's heads; one a ledger.",
    )
    focus_invoice_issuer: Name = Field(
        default="Steelyard", description="FOCUS InvoiceIssuerName: who charges."
    )
    focus_billing_account_id: Name = Field(
        default="steelyard", description="FOCUS BillingAccountId: the account that is charged."
    )
    focus_billing_account_name: Name = Field(
        default="Steelyard", description="FOCUS BillingAccountName: what people call it."
    )
    focus_service_provider: Name = Field(
        default="Steelyard",
        description="FOCUS ServiceProviderName: who provides training and serving.",
    )
    focus_host_provider: Name = Field(
        default="Steelyard",
        description="FOCUS HostProviderName: whose machines they run on, e.g. a cloud.",
    )
    replica_request_limit: int = Field(
        default=64, ge=1, description="Requests that a replica works on at once."
    )
    replica_queue_limit: int = Field(
        default=128, ge=0, description="Requests that may wait for a replica; more get 503."
    )
    body_limit_bytes: int = Field(
        default=8 * 2**20, ge=1024, description="Largest request body; a larger one gets 413."
    )
    default_model: str = Field(
        default="",
        pattern=f"^({MODEL_NAME.pattern})?$",
        description="Model that answers at /invocations and /ping; empty: none does.",
    )
    unit_fields: str = Field(
        default="parameters.unit,parameters.user,parameters.session,params.user",
        pattern=f"^{FIELD.pattern}(,{FIELD.pattern}){{0,15}}$",
        description="Fields of bodies that a policy may take a request's unit from; at most 16.",
    )
    require_keys: bool = Field(
        default=False, description="Whether inference is refused without an API key."
    )
    otlp_endpoint: str = Field(
        default="",
        pattern=r"^(https?://[^\s/?#]+[^\s?#]*)?$",
        description="OpenTelemetry collector that traces go to, over HTTP; empty: none do.",
    )
    otlp_headers: Annotated[SecretStr, AfterValidator(_must_be_headers)] = Field(
        default=SecretStr(""),
        description="Headers for the collector, NAME=VALUE with commas between, values %-coded.",
    )
    tls_certificate: str = Field(
        default="",
        description="PEM file with the edge's certificate, its chain and its key; empty: no TLS.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the TOML file, then defaults."""
        file = TomlConfigSettingsSource(settings_cls, _toml_file())
        return init_settings, env_settings, file

    @property
    def database(self) -> str:
        """The ledger's SQLAlchemy URL; may hold a password, never log it."""
        return self.database_url.get_secret_value() or f"sqlite:///{self.home / 'ledger.db'}"

    @property
    def registry_uri(self) -> str:
        """MLflow's tracking and registry URI."""
        return self.mlflow_uri or f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def artifact_root(self) -> Path:
        """Where the embedded registry keeps artefacts."""
        return self.home / "artifacts"

    @property
    def cache_dir(self) -> Path:
        """Verified copies of artefacts that serve on this machine, by digest."""
        return self.home / "cache"

    @property
    def checkpoint_dir(self) -> Path:
        """Ray Train's storage: checkpoints of runs."""
        return self.home / "checkpoints"

    @property
    def spool_dir(self) -> Path:
        """Facts on their way to the ledger."""
        return self.home / "spool"

    @property
    def run_dir(self) -> Path:
        """Sockets, process records, the edge's configuration and maps. Private (0700)."""
        return self.home / "run"

    @property
    def reading_interval_s(self) -> float:
        """Seconds between two readings of energy counters: two or more in a metering window."""
        return min(self.power_interval_s, self.meter_interval_s / 2)

    @property
    def settle_s(self) -> float:
        """Seconds that a replica's facts may take into SQL; then an interval is complete."""
        return 2 * self.meter_interval_s + 2 * self.tick_s

    @property
    def power_dir(self) -> Path:
        """Where the node's energy meter and the processes that it meters leave word."""
        return self.run_dir / "power"

    @property
    def counter_dir(self) -> Path:
        """What replicas count for monitoring, a file each."""
        return self.home / "counters"

    @property
    def log_dir(self) -> Path:
        """One log file a process."""
        return self.home / "logs"

    @property
    def secret_dir(self) -> Path:
        """The bucket key and the API token, one file each. Private (0700)."""
        return self.home / "secrets"

    @property
    def ray_temp_dir(self) -> Path:
        """Ray's session directory; in the system's temporary folder when the home is too deep.

        Ray appends about 65 characters for its sockets (``session_…/sockets/plasma_store``).
        """
        inside = self.home / "ray"
        if len(str(inside)) <= 107 - 68:
            return inside
        name = sha256(str(self.home).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"steelyard-{name}"

    @property
    def local_ray_address(self) -> str:
        """Where Ray is: the configured cluster, else the head that ``steelyard up`` starts."""
        return self.ray_address or f"127.0.0.1:{self.ray_port}"

    @property
    def edge_url(self) -> str:
        """Base URL for inference."""
        scheme = "https" if self.tls_certificate else "http"
        return f"{scheme}://{self.host}:{self.edge_port}"

    @property
    def otlp_header_lines(self) -> dict[str, str]:
        """The collector's headers by name; may hold a password, never log them."""
        pairs = filter(None, self.otlp_headers.get_secret_value().split(","))
        named = (pair.strip().partition("=") for pair in pairs)
        return {name: unquote(value) for name, _, value in named}

    @property
    def api_url(self) -> str:
        """Base URL of the dashboard and the API."""
        return f"http://{self.host}:{self.api_port}"

    def as_environment(self) -> dict[str, str]:
        """Every setting as ``STEELYARD_*``, so that child processes read the same values."""
        values = self.model_dump()
        return {f"STEELYARD_{key.upper()}": _plain(value) for key, value in values.items()}


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; every bad one is named at once.

    Raises:
        InvalidInput: a value is malformed, a key is unknown, or the home's path is too long for
            a Unix socket.
    """
    known = set(Settings.model_fields)
    stray = [k for k in os.environ if k.startswith("STEELYARD_") and k[10:].lower() not in known]
    faults = [Fault(k, "is not a setting") for k in stray if k not in MARKS]
    settings = None
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        faults += [Fault(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
    if settings is not None:
        settings = settings.model_copy(update=_resolved(settings))
        longest = len(str(settings.run_dir / "edge-admin.sock"))
        if longest > LONGEST_SOCKET_PATH:
            faults.append(Fault("home", f"{settings.home} is too long for a socket path"))
    if faults or settings is None:
        raise InvalidInput(
            "The settings are not usable.", tuple(faults), "See docs/reference/settings.md."
        )
    return settings


def _resolved(settings: Settings) -> dict[str, object]:
    """Paths as every process reads them, whatever folder it starts in."""
    found: dict[str, object] = {"home": settings.home.expanduser().resolve()}
    if settings.tls_certificate:
        found["tls_certificate"] = str(Path(settings.tls_certificate).expanduser().resolve())
    return found


def _toml_file() -> Path:
    named = os.environ.get("STEELYARD_CONFIG")
    if named:
        return Path(named).expanduser()
    home = Path(os.environ.get("STEELYARD_HOME", "~/.steelyard")).expanduser()
    return home / "steelyard.toml"
