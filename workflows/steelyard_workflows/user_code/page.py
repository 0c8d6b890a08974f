"""A run of user code in the experiment tracker, begun without MLflow's global state.

The active run, the tracking URI and the experiment of the process may be the user's own. The run
speaks through its outbox, as a workflow's does.
"""

import getpass
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress

from mlflow.tracking import MlflowClient

from steelyard.bootstrap.registry import check_registry
from steelyard.settings import Settings
from steelyard_workflows.tracking import outbox, provenance
from steelyard_workflows.tracking.outbox import Item, Sender
from steelyard_workflows.tracking.run import Status, experiment_of, links
from steelyard_workflows.tracking.run_page import log_params, log_rows, outbox_of, set_tags
from steelyard_workflows.tracking.sending import sender
from steelyard_workflows.tracking.system_metrics import Sampler
from steelyard_workflows.user_code.figures import Numbers
from steelyard_workflows.user_code.session import Session

PATIENCE_S = 10.0
"""How long the end of a run waits for an MLflow that is away; the script waits meanwhile."""
LONGEST_PARAMETER = LONGEST_TAG = 500
THREADS = "environment.threads"


class Page:
    """An open run: what is said about it is on disk at once, and sent by a thread."""

    def __init__(
        self, settings: Settings, session: Session, kind: str, script: str,
        parameters: Mapping[str, str],
    ) -> None:  # fmt: skip
        """Begin a run.

        Raises:
            Unavailable: MLflow does not answer.
        """
        check_registry(settings)
        self._settings = settings
        client = MlflowClient(settings.registry_uri, settings.registry_uri)
        tags = {"mlflow.user": _user(), "mlflow.source.name": script,
                "mlflow.source.type": "LOCAL", "steelyard.kind": kind}  # fmt: skip
        experiment = experiment_of(settings, session.model)
        run = client.create_run(experiment, run_name=kind, tags=tags)
        self.run_id = str(run.info.run_id)
        self._path = outbox_of(settings, self.run_id)
        self._claim, self._sampling = ExitStack(), ExitStack()
        self._claim.enter_context(outbox.claimed(self._path))
        self._sending = Sender(self._path, sender(settings, self.run_id))
        who = {"model": session.model, "team": session.team, "owner": session.owner}
        shown = {k: v for k, v in {**who, "script": script, **parameters}.items() if v}
        log_params(settings, self.run_id, {k: v[:LONGEST_PARAMETER] for k, v in shown.items()})
        # Threads are left out: this process may have other ones than the script.
        found = {k: v for k, v in provenance.environment().items() if k != THREADS}
        log_params(settings, self.run_id, found)
        set_tags(settings, self.run_id, links(settings, session.model, self.run_id))
        self._sampling.enter_context(Sampler(lambda rows: log_rows(settings, self.run_id, rows)))

    def metrics(self, reports: Sequence[tuple[Numbers, int, int]]) -> None:
        """Write reports together: the figures of each, its step and its moment in microseconds."""
        rows = [
            (key, float(value), at_us // 1_000, step)
            for values, step, at_us in reports
            for key, value in values.items()
        ]
        if rows:
            log_rows(self._settings, self.run_id, rows)

    def tag(self, **tags: str) -> None:
        """Set tags of ours: ``metering`` becomes ``steelyard.metering``."""
        named = {f"steelyard.{key}": value for key, value in tags.items()}
        set_tags(self._settings, self.run_id, named)

    def incomplete(self, why: str) -> None:
        """Say that not all of the run is metered."""
        with suppress(OSError):  # the disk may be what is wrong
            self.tag(metering=f"incomplete: {why}"[:LONGEST_TAG])

    def end(self, status: Status) -> None:
        """Say how the run ended; what MLflow has not got by then waits on disk."""
        with self._claim:
            self._sampling.close()
            at_ms = time.time_ns() // 1_000_000
            outbox.put(self._path, Item("end", {"status": status, "at_ms": at_ms}))
            complete = self._sending.wait(PATIENCE_S)
            self._sending.close()
            if complete:
                outbox.remove(self._path)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as containers have
        return provenance.UNKNOWN
