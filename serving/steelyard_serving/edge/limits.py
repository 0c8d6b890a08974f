"""Requests a minute of one API key, counted in the edge, before a replica sees them.

A minute is one of the clock (UTC), as the replicas count it; the count is exact for this edge.
Only a right key is counted, so that nobody uses up another's minute by its id, which is no secret.
A wrong key is the replica's to refuse.
"""

from collections.abc import Mapping

from steelyard.domain.api_key import ApiKey
from steelyard_serving.edge.files import EdgeFiles

COUNTERS = 100_000
"""Keys that are counted in a minute; beyond that the edge forgets the oldest counts."""


def limit_entries(keys: Mapping[str, ApiKey]) -> dict[str, str]:
    """Key id -> requests a minute and the secret's digest, of those keys that have a limit.

    >>> limit_entries({"a": ApiKey("a", "ada", "c0ffee", 1, requests_per_minute=60)})
    {'a': '60|C0FFEE'}
    """
    return {
        key_id: f"{key.requests_per_minute}|{key.secret_sha256.upper()}"
        for key_id, key in sorted(keys.items())
        if key.requests_per_minute
    }


def limit_rules(files: EdgeFiles) -> str:
    """Count a request for inference that shows a key with a limit; refuse it beyond the limit."""
    say = "http-request return status 429 content-type application/json lf-string"
    why = "this key may send %[var(txn.most)] requests a minute"
    wait = "hdr retry-after %[var(txn.wait)]"
    return f"""\
    http-request set-var(txn.shown) http_auth_bearer if infers
    http-request set-var(txn.shown) req.fhdr(x-api-key) if infers {{ req.fhdr(x-api-key) -m found }}
    acl keyed var(txn.shown) -m reg ^sy_[a-z0-9]{{10}}_[A-Za-z0-9_-]{{43}}$
    http-request set-var(txn.limit) var(txn.shown),bytes(3,10),map({files.limits}) if keyed
    acl limited var(txn.limit) -m found
    http-request set-var(txn.most) var(txn.limit),field(1,|) if limited
    http-request set-var(txn.kept) var(txn.limit),field(2,|) if limited
    http-request set-var(txn.proof) var(txn.shown),bytes(14),sha2(256),hex if limited
    acl proven var(txn.proof),strcmp(txn.kept) eq 0
    http-request set-var(txn.minute) date(),div(60) if limited
    http-request set-var(txn.second) date(),mod(60) if limited
    http-request set-var(txn.wait) int(60),sub(txn.second) if limited
    http-request track-sc0 var(txn.shown),bytes(3,10),concat(/,txn.minute) table key_minutes \
if limited proven
    http-request sc-inc-gpc0(0) if limited proven
    http-request set-var(txn.over) sc_get_gpc0(0),sub(txn.most) if limited proven
    acl over var(txn.over) -m int gt 0
    {say} '{{"error":"{why}"}}' {wait} if over v2
    {say} '{{"error_code":"REQUEST_LIMIT_EXCEEDED","message":"{why}"}}' {wait} if over"""


def limit_counters() -> str:
    """Where the counts are: in memory, so a restarted edge begins at 0."""
    return f"""\
backend key_minutes
    stick-table type string len 24 size {COUNTERS} expire 2m store gpc0
"""
