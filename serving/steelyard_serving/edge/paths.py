"""The edge's part of its configuration that knows paths: what it answers, what goes to which model.

Two protocols share the door: the Open Inference Protocol under ``/v2``, MLflow's scoring at
``/models/MODEL/invocations`` and, for the default model, where MLflow's own server has it.
"""

from importlib.metadata import version

from steelyard.settings import Settings
from steelyard_serving.edge.files import EdgeFiles

MODEL = "[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?"
VERSION = "versions/[0-9]{1,9}"
ASKED = "(/infer|/ready|/stats)?"
EXTENSIONS = ("binary_tensor_data", "statistics", "parameters", "model_repository")
"""What of Triton's extensions works here; clients decide by it."""

NOT_OFFERED = (
    "/v2/repository/models/", "/v2/systemsharedmemory/", "/v2/cudasharedmemory/",
    "/v2/trace/setting", "/v2/logging",
)  # fmt: skip


def own_answers(settings: Settings, files: EdgeFiles) -> str:
    """What is said about the server as a whole."""
    names = ",".join(f'"{name}"' for name in EXTENSIONS)
    server = (
        f"""'{{"name":"steelyard","version":"{version("steelyard")}","extensions":[{names}]}}'"""
    )
    healthy = """'{"live":true,"ready":true}'"""
    waiting = """'{"live":true,"ready":false}'"""
    answer = "http-request return status 200 content-type application/json"
    return f"""\
    acl reads method GET HEAD
    acl own path /v2 /v2/ /v2/health/live /v2/health/ready /ping /health /version
    acl ready str(ready),map({files.status}) -m str 1
    acl index path /v2/repository/index
    {deny(405, "use GET", "own !reads", "hdr allow GET")}
    {deny(405, "use POST", "index !{ method POST }", "hdr allow POST")}
    {deny(501, "this is not offered over HTTP", f"{{ path_beg {' '.join(NOT_OFFERED)} }}")}
    {answer} string {server} if {{ path /v2 /v2/ }}
    {answer} string '{{"live":true}}' if {{ path /v2/health/live }}
    {answer} string {healthy} if {{ path /v2/health/ready }} ready
    http-request return status 503 content-type application/json string {waiting} \
hdr retry-after 1 if {{ path /v2/health/ready }}
    http-request wait-for-body time 10s if index
    {answer} lf-string '%[str(index_ready),map({files.status})]' \
if index {{ req.body,json_query('$.ready') -m bool }}
    {answer} lf-string '%[str(index),map({files.status})]' if index
{_mlflow_answers(settings, files)}"""


def _mlflow_answers(settings: Settings, files: EdgeFiles) -> str:
    """As ``mlflow models serve`` answers them: with a model is 200, without one 404."""
    default, answer = settings.default_model or "-", "content-type application/json string"
    return f"""\
    acl pings path /ping /health
    http-request set-var(txn.stable) str({default}),map({files.routes}),field(1,|) if pings
    http-request set-var-fmt(txn.key) {default}/%[var(txn.stable)] if pings
    http-request return status 200 {answer} "\\n" if pings \
{{ var(txn.key),map({files.deployed}) -m found }}
    http-request return status 404 {answer} "\\n" if pings
    http-request return status 200 {answer} {version("mlflow")} if {{ path /version }}"""


def addresses(settings: Settings, files: EdgeFiles, pin: str) -> str:
    """Which model, which version if the path or an operator's pin says so, what is asked of it.

    ``pin`` holds the rules that check a pin.
    """
    default = settings.default_model or "-"
    return f"""\
    acl split path_reg ^/v2/models/{MODEL}{ASKED}$ ^/models/{MODEL}/invocations$ ^/invocations$
    acl pinned path_reg ^/v2/models/{MODEL}/{VERSION}{ASKED}$
    acl v2 path_beg /v2/
    acl by_default path /invocations
    {deny(404, "no such path", "!split !pinned")}
    http-request set-var(txn.model) path,field(4,/) if v2
    http-request set-var(txn.asked) path,field(5,/) if v2
    http-request set-var(txn.asked) path,field(7,/) if pinned
    http-request set-var(txn.model) path,field(3,/) if !v2
    http-request set-var(txn.model) str({default}) if by_default
    http-request set-var(txn.asked) str(invocations) if !v2
    acl infers var(txn.asked) -m str infer invocations
    {deny(405, "use POST", "infers !{ method POST }", "hdr allow POST")}
    {deny(405, "use GET", "!infers !reads", "hdr allow GET")}
    http-request set-var(txn.route) var(txn.model),map({files.routes})
{pin}
    http-request set-var(txn.version) path,field(6,/) if pinned
    acl numbered var(txn.version) -m found
    http-request set-var-fmt(txn.key) %[var(txn.model)]/%[var(txn.version)] if numbered
    http-request set-var(txn.deployed) var(txn.key),map({files.deployed}) if numbered
    acl routed var(txn.route) -m found
    acl deployed var(txn.deployed) -m found
    {deny(501, "statistics are told of one model", "!routed { path /v2/models/stats }")}
{_unknown()}
    http-request return status 404 content-type application/json lf-string \
'{{"error":"%[var(txn.key)] is not deployed"}}' if numbered !deployed"""


def _unknown() -> str:
    """Nothing is routed for the model, in the words of either protocol."""
    say = "http-request return status 404 content-type application/json lf-string"
    code = '"error_code":"RESOURCE_DOES_NOT_EXIST"'
    return f"""\
    {say} '{{"error":"unknown model %[var(txn.model)]"}}' if !routed split v2
    {say} '{{{code},"message":"no default model is served; ask /models/MODEL/invocations"}}' \
if !routed by_default
    {say} '{{{code},"message":"unknown model %[var(txn.model)]"}}' if !routed split !v2"""


def json_error(error: str) -> str:
    """A body of the Open Inference Protocol that says what is wrong."""
    return f"""content-type application/json string '{{"error":"{error}"}}'"""


def deny(status: int, error: str, condition: str, header: str = "") -> str:
    """A rule that answers instead of passing on."""
    return f"http-request return status {status} {json_error(error)} {header} if {condition}"
