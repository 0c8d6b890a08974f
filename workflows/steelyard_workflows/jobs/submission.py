"""Sending a workflow to a cluster: checked here, named so that sending twice starts it once."""

import json
import os
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import ray
from pydantic import SecretStr

from steelyard.cli.output import note
from steelyard.domain import figures
from steelyard.domain.errors import Conflict, Fault, InvalidInput, Refused
from steelyard.settings import Settings, load_settings
from steelyard_workflows import workflow_file
from steelyard_workflows.jobs.api import JobsApi
from steelyard_workflows.jobs.package import Folder, listed, own_packages
from steelyard_workflows.jobs.room import lacking
from steelyard_workflows.workflow import Workflow

MODEL, TEAM, OWNER = "steelyard.model", "steelyard.team", "steelyard.owner"
CODE = "steelyard.code"
"""Keys of a job's metadata, the last for its folder's digest; who can list jobs reads them."""
STOP_WAIT_S = 300
"""How long a stopped job may take to book what it cost, before Ray kills it."""
SET_BY_THE_JOB = ("ray_address", "jobs_address")


@dataclass(frozen=True, slots=True)
class Submission:
    """A checked workflow on its way. ``source`` is what the job names: relative to ``folder``."""

    source: str
    workflow: Workflow
    folder: Folder | None
    settings: Mapping[str, str] = field(default_factory=dict)

    def job(self, token: str) -> str:
        """The job's id: the same workflow, settings and token are the same job.

        The code is not part of it: a log file beside it must not make another job.
        """
        sent = [self.source, self.workflow.model_dump_json(), sorted(self.settings.items())]
        digest = sha256(json.dumps(sent).encode()).hexdigest()
        return f"{self.workflow.model}-{digest[:8]}-{token}"

    def metadata(self, code: str) -> dict[str, str]:
        """What ``steelyard jobs list`` shows of it, and what tells whether it is the same code."""
        workflow = self.workflow
        found = {
            MODEL: workflow.model,
            TEAM: workflow.team,
            OWNER: workflow.owner,
            "steelyard.source": self.source,
            "steelyard.version": version("steelyard"),
            CODE: code,
        }
        return {key: value for key, value in found.items() if value}

    def variables(self) -> dict[str, str]:
        """The job's environment: what was set for it, no secret, nothing of this machine."""
        ours = {f"STEELYARD_{name.upper()}": value for name, value in self.settings.items()}
        return {**ours, "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}


def prepared(source: str, working_dir: Path | None, settings: Sequence[str]) -> Submission:
    """Check all that can be checked without a cluster; nothing is sent.

    ``working_dir`` is the folder to send; None: the workflow file's own, or the current one for
    ``module:function``. ``settings`` are ``NAME=VALUE`` that hold for this job alone.

    Raises:
        InvalidInput: with every fault of the workflow or of the settings; or the workflow file is
            outside of the folder.
        NotFound: there is no such file, recipe or folder.
        Refused: the folder is too large, or does not send its workflow file.
    """
    values = _settings(settings)
    folder, inside = _places(source, working_dir)
    if folder is None:
        return Submission(source, workflow_file.load(source), None, values)
    with chdir(folder):  # the job starts there: what is found here is found there
        workflow = workflow_file.load(inside)
    sent = listed(folder)
    _require_sent(inside, sent)
    return Submission(inside, workflow, sent, values)


def submit(api: JobsApi, made: Submission, token: str) -> tuple[str, bool]:
    """Send it; the job's id, and whether it is new. Its id is told before anything is sent.

    Raises:
        Refused: the cluster has no room for the workers.
        Unavailable: the cluster does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="steelyard-job-") as name:
        scratch = Path(name)
        archive = scratch / "folder.zip"
        code = made.folder.pack(archive) if made.folder else ""
        job = made.job(token)
        note(f"Job {job}")
        earlier = api.find(job)
        if earlier is not None:
            if (earlier.metadata or {}).get(CODE, "") != code:
                note("  it runs what the folder held when it was submitted, not what it holds now")
            return job, False
        _require_room(api, made.workflow)
        _tell(api, made)
        environment = {"py_modules": own_packages(scratch), "env_vars": made.variables()}
        if made.folder:
            environment["working_dir"] = str(archive)
        command = f"exec python -m steelyard_workflows.jobs.driver {shlex.quote(made.source)}"
        try:
            api.submit_job(entrypoint=command, submission_id=job, runtime_env=environment,
                           metadata=made.metadata(code))  # fmt: skip
        except Conflict:  # the same was sent a moment ago
            return job, False
    return job, True


def _places(source: str, working_dir: Path | None) -> tuple[Path | None, str]:
    """The folder to send, None for none, and what names the workflow inside it."""
    is_file = Path(source).suffix in (".yaml", ".yml") or Path(source).is_file()
    if working_dir is None and not is_file:
        return (Path.cwd() if ":" in source else None), source
    # Not resolved: a link inside the folder belongs to the folder.
    file = Path(os.path.abspath(source))
    folder = Path(os.path.abspath(working_dir)) if working_dir else file.parent
    if not folder.is_dir():
        fault = Fault("--working-dir", f"{folder} is not a folder")
        raise InvalidInput(str(fault), (fault,))
    if not is_file:
        return folder, source
    if not file.is_relative_to(folder):
        fault = Fault("--working-dir", f"the workflow file {file} is outside of {folder}")
        raise InvalidInput(
            str(fault), (fault,), "The job reads it from that folder: name one that holds both."
        )
    return folder, str(file.relative_to(folder))


def _require_sent(inside: str, sent: Folder) -> None:
    if (sent.path / inside).is_file() and Path(inside) not in sent.files:
        raise Refused(
            f"The workflow file {inside} would not be sent: {sent.path} leaves it out.",
            "Git ignores it, or it is in a folder that is never sent.",
        )


def _settings(pairs: Sequence[str]) -> dict[str, str]:
    """What holds for the job alone, by the setting's name."""
    values, faults = {}, []
    for pair in pairs:
        name, equals, value = pair.partition("=")
        field_ = Settings.model_fields.get(name)
        if not equals or field_ is None or name in SET_BY_THE_JOB:
            faults.append(Fault("--setting", f"{pair!r} does not set a setting of a job"))
        elif field_.annotation is SecretStr or urlsplit(value).password:
            what = f"{name} may hold a password, and whoever lists jobs would read it"
            faults.append(Fault("--setting", what))
        values[name] = value
    if faults:
        raise InvalidInput(
            "The job's settings are not usable.", tuple(faults),
            "--setting NAME=VALUE; secrets go into steelyard.toml in the home of the cluster.",
        )  # fmt: skip
    load_settings(**values)
    return values


def _require_room(api: JobsApi, workflow: Workflow) -> None:
    """Where the cluster does not tell, the job asks as its first thing."""
    nodes = api.nodes()
    missing = lacking(workflow.scaling, nodes) if nodes is not None else None
    if missing is not None:
        raise Refused(
            f"At {api.address}, {missing}.",
            "Lower scaling.workers, scaling.cpus_per_worker or scaling.gpus_per_worker.",
        )


def _tell(api: JobsApi, made: Submission) -> None:
    if api.ray_version != ray.__version__:
        note(f"  the cluster runs Ray {api.ray_version}, this machine {ray.__version__}")
    if made.folder is None:
        return
    size = figures.size(made.folder.size_bytes)
    note(f"  {made.folder.path}: {len(made.folder.files)} files, {size}")
    if made.folder.secrets:
        note(f"  stays here: {', '.join(map(str, made.folder.secrets))}")
