"""How HAProxy reaches a version's replicas: at the port that they share on this machine."""

from steelyard_serving.door_ports import LOOPBACK
from steelyard_serving.edge.files import EdgeFiles


def to_replicas(files: EdgeFiles) -> str:
    """The rules and the server of a backend whose requests have the path of a version.

    A version without a port is refused by port 0, as one without replicas is by its own.
    """
    return f"""\
    http-request set-var-fmt(txn.replicas) %[path,field(3,/)]/%[path,field(4,/)]
    http-request set-dst str({LOOPBACK})
    http-request set-dst-port var(txn.replicas),map_str_int({files.doors},0)
    server replicas 0.0.0.0:0"""
