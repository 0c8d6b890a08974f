"""What a script's processes are told by their environment, and what they tell ``steelyard run``.

The variables are all that a script needs, in a Ray Job too. The folder is there under
``steelyard run`` alone: in it, whatever trains says which runs it has begun.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from steelyard.bootstrap.counting import producer
from steelyard.domain.errors import Fault, InvalidInput, Refused
from steelyard.domain.model_version import MODEL_NAME
from steelyard.settings import Settings
from steelyard_workflows.booking.metering import Charge

MODEL, TEAM, OWNER, FOLDER = (f"STEELYARD_RUN_{n}" for n in ("MODEL", "TEAM", "OWNER", "FOLDER"))
CALLBACKS = "RAY_TRAIN_CALLBACKS"
INJECTED = "steelyard_workflows.user_code.injection.Injected"
"""What Ray Train calls, by the name that stands in its variable."""
RUNS = "runs.jsonl"
LONGEST_OWNER = 200


@dataclass(frozen=True, slots=True)
class Session:
    """For whom a script trains. ``folder`` is None where nobody watches it."""

    model: str
    team: str | None = None
    owner: str | None = None
    folder: Path | None = None

    def variables(self) -> dict[str, str]:
        """The environment of a script; a callback that is set already stays."""
        named = {MODEL: self.model, TEAM: self.team, OWNER: self.owner,
                 FOLDER: str(self.folder) if self.folder else None}  # fmt: skip
        others = [c for c in os.environ.get(CALLBACKS, "").split(",") if c.strip()]
        callbacks = [*(c for c in others if c != INJECTED), INJECTED]
        return {CALLBACKS: ",".join(callbacks), **{k: v for k, v in named.items() if v}}


def checked(session: Session) -> Session:
    """The session, if its names can be used.

    Raises:
        InvalidInput: every one that cannot is named.
    """
    faults = [
        Fault(name, f"{value!r} is not a name")
        for name, value in (("model", session.model), ("team", session.team))
        if value is not None and not re.fullmatch(MODEL_NAME, value)
    ]
    if session.owner is not None and len(session.owner) > LONGEST_OWNER:
        faults.append(Fault("owner", f"is longer than {LONGEST_OWNER} characters"))
    if faults:
        named = "; ".join(map(str, faults))
        raise InvalidInput(
            f"It is not clear whose run this is: {named}", tuple(faults),
            "Names use a-z, 0-9, '-' and '_'. See docs/how-to/train-your-own-model.md.",
        )  # fmt: skip
    return session


def from_environment(variables: Mapping[str, str]) -> Session:
    """The session that a script's environment describes.

    Raises:
        InvalidInput: the model is missing, or a name cannot be used.
    """
    if not variables.get(MODEL):
        fault = Fault(MODEL, "is not set")
        raise InvalidInput(
            f"{CALLBACKS} names Steelyard, and {MODEL} does not say which model is trained.",
            (fault,), "Set it beside the callback, or start with steelyard run --model.",
        )  # fmt: skip
    folder = variables.get(FOLDER)
    return checked(
        Session(
            variables[MODEL], variables.get(TEAM) or None, variables.get(OWNER) or None,
            Path(folder) if folder else None,
        )
    )  # fmt: skip


def check_spool(settings: Settings) -> None:
    """Refuse to start what could not be booked.

    Raises:
        Refused: nothing can be written where facts wait for the ledger.
    """
    probe = settings.spool_dir / f"probe-{os.getpid()}"
    try:
        producer(settings, "probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Refused(
            f"What is measured cannot be written to {settings.spool_dir}: {error.strerror}.",
            "Mend that, or set STEELYARD_HOME to another folder; nothing was started.",
        ) from error


def announce(folder: Path | None, charge: Charge) -> None:
    """Tell ``steelyard run`` that a run is going on; the last word on a run counts."""
    if folder is not None:
        with (folder / RUNS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(charge)) + "\n")


def announced(folder: Path) -> dict[str, Charge]:
    """Every run that was announced, by its id, in the order of their beginnings."""
    path = folder / RUNS
    if not path.exists():
        return {}
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    charges = [Charge(**json.loads(line)) for line in whole.splitlines()]
    return {charge.run_id: charge for charge in charges}
