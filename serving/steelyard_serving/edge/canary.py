"""The canary's own backend: answered from stable when it is unreachable, and guarded.

A canary that cannot be reached costs no client an answer: stable is asked in its place, at once.
The record says so (arm ``fallback``) and counts against the canary, because stable could be reached
at that very moment. When stable cannot be, nobody is to blame, and the request waits for the canary
as it would for any version. Each way is a listener of this process, because a retry can change the
server of a request but not its path.

The guard is the plan's quickest rule kept where it needs nobody: when the newest answers of a
canary were failures without one success between them, its share goes to stable at once. It holds
for one weight table (generation) of one version; the controller makes another when it decides.
"""

from steelyard_serving.edge.files import EdgeFiles

CONSECUTIVE = 10
UNITS = 3
"""The guard's numbers; a plan's own are kept by the controller."""

GUARD_MINUTES = 10
"""How long after the last failure the guard's word holds, if no new weight table ends it before."""

RETRY_ON = "retry-on conn-failure empty-response junk-response"
"""Without an answer of a replica."""

FALLBACK_MARK = "fallback"
STABLE, CANARY = "x-steelyard-stable", "x-steelyard-canary"
"""Headers that tell the listeners the two versions."""

GUARD = "canary_guard"
UNITS_TABLE = "canary_units"


def guarded() -> str:
    """Send a canary's request to stable while the guard says so."""
    return f"""\
    acl to_canary var(txn.arm) -m str canary
    http-request set-var-fmt(txn.guarded) \
"%[var(txn.model)]/%[var(txn.version)]/%[var(txn.generation)]" if to_canary
    acl diverted var(txn.guarded),table_gpt(0,{GUARD}) gt 0
    http-request set-var(txn.version) var(txn.stable) if to_canary diverted
    http-request set-var(txn.arm) str(stable) if to_canary diverted"""


def canary_onward() -> str:
    """Where a canary's request goes, and whom to ask in its place."""
    return f"""\
    http-request set-header {STABLE} %[var(txn.stable)] if to_canary
    http-request set-header {CANARY} %[var(txn.version)] if to_canary
    use_backend canary if to_canary"""


def canary_backends(replicas: str, answers: str, files: EdgeFiles) -> str:
    """The canary, then stable once, then the canary again for as long as any version is tried.

    ``replicas`` are the rules and the server that reach a version's replicas, ``answers`` what
    clients see of what they say.
    """
    return f"""\
backend canary
    balance first
    retries 1
    option redispatch 1
    {RETRY_ON}
{replicas} id 1
    server fallback unix@{files.fallback} id 2
{_count()}
{answers}

frontend fallback
    bind unix@{files.fallback} mode 600
    http-request set-header x-steelyard-arm {FALLBACK_MARK}
{_path_of(STABLE)}
    default_backend stable_once

backend stable_once
    balance first
    retries 1
    option redispatch 1
    {RETRY_ON}
{replicas} id 1
    server patience unix@{files.patience} id 2
    acl by_replica res.hdr(x-steelyard-answer) -m str 1
    http-response set-header x-steelyard-answer {FALLBACK_MARK} if by_replica

frontend patience
    bind unix@{files.patience} mode 600
    http-request set-header x-steelyard-arm canary
{_path_of(CANARY)}
    # Whatever comes of it is final.
    http-after-response set-header x-steelyard-answer patience
    default_backend serve
"""


def _path_of(header: str) -> str:
    """The request's path, with the version that a header tells."""
    return f"""\
    http-request set-path /v/%[path,field(3,/)]/%[req.hdr({header})]/%[path,field(5,/)]"""


def _count() -> str:
    """Failures in a row, and the units they came from; a success ends the row."""
    unit = "var(txn.guarded),concat(/,txn.row),concat(/,txn.unit),sha1"
    return f"""\
    acl fell res.hdr(x-steelyard-answer) -m str {FALLBACK_MARK}
    acl answered res.hdr(x-steelyard-answer) -m str 1
    acl erred status ge 500
    acl blameless status 503 504
    http-response set-var(txn.failed) int(0) if answered !erred !fell
    http-response set-var(txn.failed) int(1) if answered erred !blameless
    http-response set-var(txn.failed) int(1) if fell
    acl failure var(txn.failed) -m int 1
    acl success var(txn.failed) -m int 0
    acl in_a_row var(txn.guarded),table_gpc(0,{GUARD}) gt 0
    http-response track-sc1 var(txn.guarded) table {GUARD} if failure or success in_a_row
    http-response set-var(txn.row) sc_get_gpc(2,1) if failure
    http-response track-sc2 {unit} table {UNITS_TABLE} if failure
    http-response sc-inc-gpc(0,1) if failure
    http-response sc-inc-gpc(1,1) if failure {{ sc_get_gpc(0,2) eq 0 }}
    http-response sc-inc-gpc(0,2) if failure
    http-response sc-set-gpt(0,1) 1 if failure {{ sc_get_gpc(0,1) ge {CONSECUTIVE} }} \
{{ sc_get_gpc(1,1) ge {UNITS} }}
    # Clearing tells what was there, which nobody asks.
    http-response set-var(txn.row) sc_clr_gpc(0,1) if success in_a_row
    http-response set-var(txn.row) sc_clr_gpc(1,1) if success
    http-response sc-inc-gpc(2,1) if success"""


def guard_counters() -> str:
    """Rows of failures by version and weight table, and the units of each row."""
    return f"""\
backend {GUARD}
    stick-table type string len 96 size 10k expire {GUARD_MINUTES}m store gpc(3),gpt(1)

backend {UNITS_TABLE}
    stick-table type binary len 20 size 100k expire {GUARD_MINUTES}m store gpc(1)
"""
