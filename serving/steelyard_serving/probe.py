"""Asking one version for a real inference, on the way that the edge uses."""

import http.client

from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_serving.audit import ANSWER, PROBE
from steelyard_serving.internal import INTERNAL, mark
from steelyard_serving.protocols.open_inference import zero_request

TIMEOUT_S = 5.0


def probe(settings: Settings, version: ModelVersion) -> str:
    """Send one item of zeros through Ray Serve; empty when it answered, else the reason."""
    connection = http.client.HTTPConnection("127.0.0.1", settings.serve_port, timeout=TIMEOUT_S)
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
        return "Ray Serve has no replica for it yet"
    return f"a probe was answered with {response.status}: {text[:200]}"
