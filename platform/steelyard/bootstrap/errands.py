"""What a process asks of the platform once, without keeping one open."""

import logging
from typing import TYPE_CHECKING

from steelyard.bootstrap import Platform
from steelyard.domain.errors import Unavailable
from steelyard.settings import Settings

if TYPE_CHECKING:
    from steelyard.domain.model_version import ModelVersion

log = logging.getLogger("steelyard.bootstrap")


def keep_evidence(settings: Settings, version: "ModelVersion") -> None:
    """Copy a new version's evidence into the ledger, which keeps the registry honest."""
    try:
        Platform(settings).gates.learn(version)
    except Unavailable as error:  # it is copied when the ledger next looks at the registry
        log.warning("%s", error)


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
