"""Asking one version for a real inference, on the way that the edge uses."""

import http.client

from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_serving.audit import ANSWER, PROBE
from steelyard_serving.door_ports import LOOPBACK, door_port
from steelyard_serving.internal import INTERNAL, mark
from steelyard_serving.protocols.open_inference import zero_request

TIMEOUT_S = 5.0


def probe(settings: Settings, version: ModelVersion) -> str:
    """Send one item of zeros to the version's door; empty when it answered, else the reason."""
    port = door_port(settings, version.model, version.version)
    if port is None:
        return "no replica has opened its door yet"
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=TIMEOUT_S)
    try:
        connection.request(
            "POST", f"/v/{version.name}/infer", zero_request(version.signature),
            {PROBE: "1", INTERNAL: mark(settings)},
        )  # fmt: skip
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return f"no answer to a probe: {error}"
    finally:
        connection.close()
    if response.status == 200 and response.getheader(ANSWER):
        return ""
    if not response.getheader(ANSWER):
        return "somebody else answers at its port"
    return f"a probe was answered with {response.status}: {text[:200]}"
