"""The edge's part of its configuration that chooses a version, in C.

Pin -> rule -> bucket -> arm -> guard. The same rules are in ``steelyard.domain``: ``pin``,
``header_rules``, ``unit_key`` and ``traffic``. A policy about headers or fields is one entry of the
steering map; what nobody asked for costs a look-up that finds nothing.
"""

from base64 import b64encode

from steelyard.domain.pin import PIN_HEADER
from steelyard.domain.traffic import MOST_CANDIDATES
from steelyard.domain.unit_key import LONGEST, PLAIN, SMALL_BYTES, UNIT_HEADER
from steelyard.settings import Settings
from steelyard_serving.edge.canary import guarded
from steelyard_serving.edge.files import EdgeFiles
from steelyard_serving.edge.paths import deny

HEADER_VALUE = r"(?s)^(?:([^|]*)\|.*\r\n\1: ([^\r]*)\r\n.*|.*)$"
"""``NAME|``, a line break and all headers -> the last value of that header, or nothing.

A converter's own arguments cannot come from a map; what a regular expression refers back to can.
"""

FIRST_RULE = (
    r"(?s)^(?:(?:[^|\r]*\|)*?(?:"
    r"=([^:|]+):([^:|]+):([0-9]+)\|.*\r\n\1: \2\r\n.*"
    r"|~([^:|]+):([^:|]+):([0-9]+)\|.*\r\n\4: \5.*)"
    r"|.*)$"
)
"""Rules as the steering map has them, a line break and all headers -> the version of the first rule
that holds, or nothing."""


def pin_shown() -> str:
    """Keep an operator's pin, before headers that begin like ours are taken from the request."""
    return f"    http-request set-var(txn.pin) req.fhdr({PIN_HEADER})"


def pin_rules(key: bytes) -> str:
    """Check the pin: the version it names, or 403."""
    secret = b64encode(key).decode()
    what = '"%[var(txn.model)]/%[var(txn.pin),field(1,.)]/%[var(txn.pin_until)]"'
    shape = "'^[0-9]{1,9}[.][0-9]{10}[.][0-9a-f]{64}$'"
    return f"""\
    acl pins var(txn.pin) -m found
    acl pin_shaped var(txn.pin) -m reg {shape}
    http-request set-var(txn.pin_until) var(txn.pin),field(2,.) if pins pin_shaped
    http-request set-var-fmt(txn.pin_said) {what} if pins pin_shaped
    http-request set-var(txn.pin_right) var(txn.pin_said),hmac(sha256,{secret}),hex,lower \
if pins pin_shaped
    acl pin_genuine var(txn.pin),field(3,.),secure_memcmp(txn.pin_right)
    acl pin_lives date(),sub(txn.pin_until) lt 0
    {deny(403, "this pin is not valid, or not any more", "pins !pin_genuine or pins !pin_lives")}
    http-request set-var(txn.version) var(txn.pin),field(1,.) if pins split"""


def choice(settings: Settings, files: EdgeFiles, bucket_key: bytes) -> str:
    """Everything between the route of a model and the version that answers."""
    return "\n".join((
        _steering(files), _units(settings), _bucket(bucket_key), _rules(), _share(), _arm(),
        guarded(),
    ))  # fmt: skip


def _steering(files: EdgeFiles) -> str:
    """What the model's policy says of headers and fields, and the headers as one text."""
    return f"""\
    http-request set-var(txn.steering) var(txn.model),map({files.steering})
    acl steered var(txn.steering) -m found
    http-request set-var-fmt(txn.headers) "\\r\\n%[req.hdrs]" if steered"""


def _units(settings: Settings) -> str:
    """Whose request it is, as ``domain.unit_key.unit_of`` finds it."""
    header = f"var(txn.steering),field(1,&),concat(|,txn.headers),regsub('{HEADER_VALUE}','\\2')"
    long = f"{{ var(txn.said) -m len gt {LONGEST} }}"
    return f"""\
    http-request set-var(txn.said) req.fhdr({UNIT_HEADER})
    acl says var(txn.said) -m len gt 0
    http-request set-var(txn.said) {_quoted(header)} if steered !says
    {deny(400, f"the unit: at most {LONGEST} bytes", long)}
{_unit_fields(settings)}
    http-request set-var(txn.unit) var(txn.id)
    http-request set-var(txn.unit) var(txn.said) if says"""


def _unit_fields(settings: Settings) -> str:
    """One line a field that a policy may name: HAProxy takes a path from nowhere but here."""
    lines = [
        "http-request set-var(txn.field) var(txn.steering),field(2,&) if steered !says",
        "acl by_field var(txn.field) -m len gt 0",
        f"acl whole req.body_size le {SMALL_BYTES}",
        "acl arrived req.body_size,sub(txn.arrived) eq 0",
        "http-request set-var(txn.arrived) req.body_len if by_field",
    ]
    for path in settings.unit_fields.split(","):
        read = _quoted(f"req.body,json_query('$.{path}','int')")
        asked = f"{{ var(txn.field) -m str {path} }}"
        lines.append(f"http-request set-var(txn.said) {read} if by_field whole arrived {asked}")
    lines.append(f"acl plain var(txn.said) -m reg '^{PLAIN.pattern}$'")
    lines.append("http-request unset-var(txn.said) if by_field !plain")
    return "\n".join(f"    {line}" for line in lines)


def _bucket(key: bytes) -> str:
    """The integer of ``domain.traffic.bucket``."""
    secret = b64encode(key).decode()
    return f"""\
    http-request set-var(txn.stable) var(txn.route),field(1,|)
    http-request set-var(txn.lineage) var(txn.route),field(4,|)
    http-request set-var(txn.generation) var(txn.route),field(5,|)
    http-request set-var(txn.bucket) var(txn.lineage),concat(|,txn.unit),\
hmac(sha256,{secret}),bytes(0,4),hex,hex2i,mod(10000) if routed"""


def _rules() -> str:
    """A version that was asked for by number, else the one that a rule names."""
    rules = f"var(txn.steering),field(3,&),concat(,txn.headers),regsub('{FIRST_RULE}','\\3\\6')"
    return f"""\
    http-request set-var(txn.arm) str(pinned) if numbered
    http-request set-var(txn.ruled) {_quoted(rules)} if steered split infers !numbered
    acl ruled var(txn.ruled) -m len gt 0
    http-request set-var(txn.version) var(txn.ruled) if ruled
    http-request set-var(txn.arm) str(pinned) if ruled
    acl held var(txn.arm) -m str pinned"""


def _share() -> str:
    """The share that begins last at or before the bucket: its candidate and its end.

    A line of the route map without a sixth field has one share at most, from bucket 0 on: nothing
    else is looked at then.
    """
    first = """\
    http-request set-var(txn.canary) var(txn.route),field(2,|)
    http-request set-var(txn.end) var(txn.route),field(3,|)
    http-request set-var(txn.from) var(txn.route),field(6,|)
    acl shares var(txn.from) -m found
    http-request set-var(txn.end) int(0) if shares { var(txn.bucket),sub(txn.from) -m int lt 0 }
"""
    others = "".join(map(_other_share, range(1, MOST_CANDIDATES)))
    return f"""{first}{others}\
    http-request set-var(txn.ahead) var(txn.bucket),sub(txn.end) if routed
    acl inside var(txn.ahead) -m int lt 0"""


def _other_share(number: int) -> str:
    """The ``number``-th one after the first; the last three fields of the line may be its."""
    version, start, end = (3 * number + field for field in (4, 5, 6))
    begun = "shares { var(txn.bucket),sub(txn.from) -m int ge 0 }"
    return f"""\
    http-request set-var(txn.from) var(txn.route),field({start},|) if shares
    http-request set-var(txn.canary) var(txn.route),field({version},|) if {begun}
    http-request set-var(txn.end) var(txn.route),field({end},|) if {begun}
"""


def _arm() -> str:
    """Stable or the canary, as ``domain.traffic.choose`` has it."""
    return """\
    http-request set-var(txn.arm) str(stable) if !held
    http-request set-var(txn.version) var(txn.stable) if !held
    # What is only read is of the stable version, so that it is the same at each look.
    http-request set-var(txn.arm) str(canary) if !held infers inside
    http-request set-var(txn.version) var(txn.canary) if !held infers inside"""


def _quoted(expression: str) -> str:
    """An expression as one word of the configuration, taken as it stands."""
    text = expression.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{text}"'
