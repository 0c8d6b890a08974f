"""HAProxy's configuration for the edge, rendered from the settings.

A request's way: id -> route of its model -> limit of its key -> pin, unit, rules, bucket, arm and
version (``choice``) -> a replica of the version at ``/v/<model>/<version>/…``. It marks what it
answered (``x-steelyard-answer``); what was not answered is tried again, a canary's with stable
(``canary``).
What is asked about the server as a whole, the edge answers itself, from its maps (``paths``).
"""

from dataclasses import dataclass

from steelyard.settings import Settings
from steelyard_serving.edge.canary import canary_backends, canary_onward, guard_counters
from steelyard_serving.edge.choice import choice, pin_rules, pin_shown
from steelyard_serving.edge.files import EdgeFiles, edge_files
from steelyard_serving.edge.limits import limit_counters, limit_rules
from steelyard_serving.edge.paths import addresses, deny, json_error, own_answers
from steelyard_serving.edge.replicas import to_replicas
from steelyard_serving.edge.tls import bind_options

ROOM_MS = 2000
"""Pause of a retry. With the attempts below it outlives the restart of a replica."""

ATTEMPTS = 8
BUFFER_BYTES = 128 * 1024
"""A request is repeated only when it fits into one buffer; a larger one is tried once."""


@dataclass(frozen=True, slots=True)
class EdgeKeys:
    """What draws units into buckets, and what operators' pins are made with."""

    bucket: bytes
    pin: bytes


def render(settings: Settings, keys: EdgeKeys) -> str:
    """The whole configuration. The text holds the keys, so keep it private."""
    files = edge_files(settings)
    parts = (_process(files), _edge(settings, files, keys), limit_counters(), guard_counters(),
             _backends(settings, files), "")  # fmt: skip
    return "\n".join(parts)


def _process(files: EdgeFiles) -> str:
    return f"""\
global
    maxconn 2000
    hard-stop-after 5s
    tune.bufsize {BUFFER_BYTES}
    stats socket unix@{files.admin} mode 600 level admin
    stats timeout 10s

defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    timeout queue 5s
    timeout http-request 10s
    timeout http-keep-alive 60s
    option http-keep-alive
    # When a connection that was used before breaks, HAProxy closes the client's without a word, as
    # HTTP allows from a client's second request on. So a first request never gets such a one.
    http-reuse safe
    http-error status 400 {json_error("malformed HTTP request")}
    http-error status 408 {json_error("the request did not arrive in time")}
    http-error status 500 {json_error("internal error")}
    http-error status 502 {json_error("the model server broke off")}
    http-error status 503 {json_error("no model server answers")} hdr retry-after 1
    http-error status 504 {json_error("the model server took too long")}
"""


def _edge(settings: Settings, files: EdgeFiles, keys: EdgeKeys) -> str:
    return f"""\
frontend edge
    bind {settings.host}:{settings.edge_port}{bind_options(settings)}
    bind unix@{files.grpc} mode 600
{_identity()}
{own_answers(settings, files)}
{addresses(settings, files, pin_rules(keys.pin))}
{limit_rules(files)}
{_body(settings)}
{choice(settings, files, keys.bucket)}
{_onward()}
    http-after-response set-header x-prediction-id %[var(txn.id)]
{canary_onward()}
    default_backend serve
"""


def _identity() -> str:
    return f"""\
{pin_shown()}
    http-request set-var(txn.id) uuid()
    http-request del-header x-steelyard- -m beg
    http-request del-header upgrade
    http-request set-header x-steelyard-arrived-us %[date(0,us)] \
if {{ req.fhdr(traceparent) -m found }}
    http-request set-header x-prediction-id %[var(txn.id)]"""


def _body(settings: Settings) -> str:
    """The size limit for bodies that say how long they are; then all of it, if it fits."""
    limit = settings.body_limit_bytes
    large = f"{{ req.hdr_val(content-length) gt {limit} }}"
    return f"""\
    {deny(413, f"the body is larger than {limit} bytes", large)}
    # A request is repeatable only if all of it is here before its first byte goes on.
    http-request wait-for-body time 10s"""


def _onward() -> str:
    """What the replica is told."""
    return """\
    http-request set-header x-steelyard-arm %[var(txn.arm)]
    http-request set-header x-steelyard-bucket %[var(txn.bucket)] if routed
    http-request set-header x-steelyard-generation %[var(txn.generation)] if routed
    http-request set-header x-steelyard-lineage %[var(txn.lineage)] if routed
    http-request set-header x-steelyard-unit %[var(txn.unit)] if says
    http-request set-path /v/%[var(txn.model)]/%[var(txn.version)]/%[var(txn.asked)]"""


def _backends(settings: Settings, files: EdgeFiles) -> str:
    """The replicas, and the room in which a retry waits before it goes there again.

    HAProxy repeats a refused connection after a second but a bad answer at once, so its retries
    would be spent before a killed replica is back. Every second retry therefore goes to the
    room: a listener of this same process that holds it for a moment and passes it on.
    """
    replicas = to_replicas(files)
    return f"""\
backend serve
    balance first
    retries {ATTEMPTS}
    option redispatch 2
    # 500 without a mark is the room's: still nobody is there.
    retry-on conn-failure empty-response junk-response 500
{replicas} id 1
    server room unix@{files.room} id 2
{_answers()}

{canary_backends(replicas, _answers(), files)}

frontend room
    bind unix@{files.room} mode 600
    tcp-request inspect-delay {ROOM_MS}ms
    tcp-request content accept if WAIT_END
    default_backend serve_again

backend serve_again
    retries 0
{replicas}
    # Its own "nobody there" must look like something to try again, unlike a busy replica's 503.
    http-response set-var(txn.answered) bool(true)
    http-after-response set-status 500 if !{{ var(txn.answered) -m found }}"""


def _answers() -> str:
    """What the client gets to see of an answer."""
    broken = json_error("the model server broke off")
    absent = json_error("the model is not being served right now")
    return f"""\
    acl marked res.hdr(x-steelyard-answer) -m found
    # A replica that dies between head and body of its answer: nobody gets half of it.
    http-response wait-for-body time 60s
    http-response set-var(txn.arrived) res.body_len
    acl fits res.body_size lt {BUFFER_BYTES // 2}
    acl broke_off res.body_size,sub(txn.arrived) gt 0
    http-response return status 502 {broken} if fits broke_off
    http-response return status 503 {absent} hdr retry-after 1 if !marked
    http-response set-status 500 if {{ status 520 }}
    http-response del-header x-steelyard- -m beg
    http-response del-header x-request-id
    http-response del-header server"""
