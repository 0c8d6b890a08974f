"""Submitting to a cluster: what is checked, named and sent, and what a cluster may answer."""

import io
import os
import re
import signal
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import distribution
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.job_submission import JobDetails, JobStatus, JobType

from steelyard.cli.app import run
from steelyard.domain.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    Refused,
    Unavailable,
)
from steelyard_workflows.cluster import SECRETS
from steelyard_workflows.interrupts import sigterm_interrupts
from steelyard_workflows.jobs.api import JobsApi
from steelyard_workflows.jobs.package import LIMIT_BYTES, listed, own_packages
from steelyard_workflows.jobs.room import lacking
from steelyard_workflows.jobs.submission import CODE, prepared
from steelyard_workflows.jobs.watching import Log, exit_code
from steelyard_workflows.workflow import Scaling

WORKFLOW = "recipe: digits_cnn\nmodel: digits\nteam: vision\nowner: ada\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with a workflow file, some code, and what must stay; a home beside it."""
    monkeypatch.setenv("STEELYARD_HOME", str(tmp_path / "home"))
    place = tmp_path / "user"
    (place / "rings").mkdir(parents=True)
    (place / "train.yaml").write_text(WORKFLOW, encoding="utf-8")
    (place / "rings" / "recipe.py").write_text("x = 1\n", encoding="utf-8")
    return place


def write(path: Path, text: str = "x") -> None:
    """A file with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# What is sent


def test_code_is_sent_and_what_is_no_code_stays(folder: Path) -> None:
    """History, environments, MLflow's files and checkpoints stay, also further down."""
    for name in (".git/config", ".venv/bin/python", "mlruns/1/meta.yaml", "checkpoints/a.pt",
                 "rings/__pycache__/recipe.pyc", ".mypy_cache/x.json"):  # fmt: skip
        write(folder / name)
    assert listed(folder).files == (Path("rings/recipe.py"), Path("train.yaml"))


@pytest.mark.parametrize("pattern", SECRETS)
def test_what_may_hold_a_secret_stays_and_is_named(folder: Path, pattern: str) -> None:
    """A file of each kind, at the top and below."""
    name = pattern.replace("*", "production")
    name = f"{name}/id" if name in (".ssh", ".aws") else name
    for place in (folder / name, folder / "rings" / name):
        write(place)
    found = listed(folder)
    assert found.files == (Path("rings/recipe.py"), Path("train.yaml"))
    assert Path(name) in found.secrets and Path("rings") / name in found.secrets


def test_what_git_ignores_stays(folder: Path) -> None:
    """By the folder's own .gitignore, by one below, and by those up to the repository's top."""
    write(folder.parent / ".git" / "config")
    write(folder.parent / ".gitignore", "*.parquet\n")
    write(folder / ".gitignore", "scratch/\n")
    write(folder / "rings" / ".gitignore", "local.py\n")
    for name in ("rows.parquet", "scratch/a.py", "rings/local.py"):
        write(folder / name)
    assert {file.suffix for file in listed(folder).files} == {".py", ".yaml", ""}
    sent = set(map(str, listed(folder).files))
    assert not sent & {"rows.parquet", "scratch/a.py", "rings/local.py"}


def test_a_link_to_a_folder_is_not_followed(folder: Path) -> None:
    """A loop of links ends, and a link does not pull in what lies elsewhere."""
    (folder / "rings" / "loop").symlink_to(folder)
    assert len(listed(folder).files) == 2


def test_the_same_files_make_the_same_package(folder: Path, tmp_path: Path) -> None:
    """Times do not count, contents do."""
    first = listed(folder).pack(tmp_path / "a.zip")
    os.utime(folder / "train.yaml", (0, 0))
    assert listed(folder).pack(tmp_path / "b.zip") == first
    write(folder / "rings" / "recipe.py", "x = 2\n")
    assert listed(folder).pack(tmp_path / "c.zip") != first
    with zipfile.ZipFile(io.BytesIO((tmp_path / "c.zip").read_bytes())) as made:
        assert made.read("rings/recipe.py") == b"x = 2\n"


def test_a_folder_that_is_too_large_is_refused_with_its_largest_files(folder: Path) -> None:
    """The limit is exact; the message names what to move away."""
    small = listed(folder).size_bytes
    with (folder / "rows.bin").open("wb") as file:
        file.truncate(LIMIT_BYTES - small)
    assert listed(folder).size_bytes == LIMIT_BYTES
    (folder / "one-more.txt").write_text("x", encoding="utf-8")
    with pytest.raises(Refused, match=r"too large.*Its largest files: rows\.bin \(105 MB\)"):
        listed(folder)


def test_steelyard_itself_is_sent_whole_and_without_pip(tmp_path: Path) -> None:
    """The packages that a run imports, and the metadata that its commands are found by."""
    made = {Path(path).name: Path(path) for path in own_packages(tmp_path)}
    ours = distribution("steelyard")
    assert set(made) == {"steelyard", "steelyard_workflows", f"steelyard-{ours.version}.dist-info"}
    assert (made["steelyard_workflows"] / "jobs" / "driver.py").is_file()
    assert not list(tmp_path.rglob("*.pyc"))
    metadata = made[f"steelyard-{ours.version}.dist-info"]
    assert "steelyard.commands" in (metadata / "entry_points.txt").read_text(encoding="utf-8")
    assert not any((tmp_path / part).exists() for part in ("requirements.txt", "pyproject.toml"))


# What is checked before anything is sent


def test_every_fault_of_the_workflow_is_told_before_anything_is_sent(folder: Path) -> None:
    """The cluster need not even be there."""
    write(folder / "train.yaml", WORKFLOW + "scaling: {workers: 0}\ntrain: {epochs: -1}\n")
    with pytest.raises(InvalidInput) as caught:
        prepared(str(folder / "train.yaml"), None, ())
    assert {fault.where for fault in caught.value.faults} == {"scaling.workers", "train.epochs"}


def test_the_workflow_file_is_named_as_the_job_finds_it(folder: Path) -> None:
    """Relative to the folder that is sent: its own, or one further up."""
    write(folder / "workflows" / "deep.yaml", WORKFLOW)
    assert prepared(str(folder / "train.yaml"), None, ()).source == "train.yaml"
    deep = prepared(str(folder / "workflows" / "deep.yaml"), folder, ())
    assert deep.source == "workflows/deep.yaml"
    assert deep.folder is not None and deep.folder.path == folder


def test_code_is_looked_for_where_the_job_looks(folder: Path) -> None:
    """A recipe that the folder does not hold fails here, not on the cluster."""
    write(folder / "train.yaml", "recipe: elsewhere.recipe:made\nmodel: digits\n")
    with pytest.raises(InvalidInput, match="not a usable workflow") as caught:
        prepared(str(folder / "train.yaml"), None, ())
    assert str(folder) in caught.value.faults[0].what


def test_a_workflow_file_outside_of_the_folder_is_refused(folder: Path) -> None:
    """The job could not read it."""
    with pytest.raises(InvalidInput, match=r"train\.yaml is outside of .*rings"):
        prepared(str(folder / "train.yaml"), folder / "rings", ())


def test_a_workflow_file_that_git_ignores_is_refused(folder: Path) -> None:
    """It would be missing on the cluster."""
    write(folder / ".gitignore", "train.yaml\n")
    with pytest.raises(Refused, match=r"train\.yaml would not be sent"):
        prepared(str(folder / "train.yaml"), None, ())


def test_a_built_in_recipe_sends_no_folder(folder: Path) -> None:
    """There is no code of the user's in it."""
    assert prepared("digits_cnn", None, ()).folder is None


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("region", "does not set"),
        ("regoin=DEU", "does not set"),
        ("ray_address=10.0.0.1:6379", "does not set"),
        ("database_url=sqlite:///x", "may hold a password"),
        ("mlflow_uri=http://ada:secret@host", "may hold a password"),
        ("meter_interval_s=soon", "meter_interval_s: .*number"),
    ],
)
def test_a_setting_that_is_none_or_a_secret_is_refused(
    folder: Path, pair: str, message: str
) -> None:
    """A job's environment is read by whoever lists jobs; its values are not repeated."""
    with pytest.raises(InvalidInput) as caught:
        prepared(str(folder / "train.yaml"), None, (pair,))
    told = "; ".join(map(str, caught.value.faults))
    assert re.search(message, told)
    assert "ada:secret" not in str(caught.value) + told


def test_nothing_of_this_machine_is_sent_with_a_job(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its settings nor its secrets: not in the environment, not in the metadata."""
    monkeypatch.setenv("STEELYARD_DATABASE_URL", "postgresql://ada:hidden@host/ledger")
    monkeypatch.setenv("STEELYARD_REGION", "DEU")
    made = prepared(str(folder / "train.yaml"), None, ("region=FRA",))
    assert made.variables() == {"STEELYARD_REGION": "FRA", "RAY_JOB_STOP_WAIT_TIME_S": "300"}
    metadata = made.metadata("c0de")
    assert metadata["steelyard.model"] == "digits" and metadata[CODE] == "c0de"
    assert (metadata["steelyard.team"], metadata["steelyard.owner"]) == ("vision", "ada")
    assert not re.search("hidden|DEU", str(metadata) + str(made.variables()))


def test_the_same_submission_has_the_same_id(folder: Path) -> None:
    """Workflow, settings and token make it; a file beside the workflow does not."""

    def job(token: str, *settings: str) -> str:
        return prepared(str(folder / "train.yaml"), None, settings).job(token)

    first = job("t1")
    assert re.fullmatch(r"digits-[0-9a-f]{8}-t1", first)
    write(folder / "train.log")
    assert job("t1") == first
    assert len({first, job("t2"), job("t1", "region=FRA")}) == 3
    write(folder / "train.yaml", WORKFLOW + "train: {epochs: 2}\n")
    assert job("t1") != first


# Room


def test_a_worker_needs_its_devices_on_one_node() -> None:
    """Four CPUs on four nodes hold no worker of two."""
    spread = [{"CPU": 1.0}] * 4
    assert lacking(Scaling(workers=4), spread) is None
    assert lacking(Scaling(workers=5), spread) is not None
    assert "room for 0" in str(lacking(Scaling(workers=2, cpus_per_worker=2), spread))
    assert "room for 1" in str(
        lacking(Scaling(workers=2, gpus_per_worker=1), [{"CPU": 8.0, "GPU": 1.0}])
    )


@given(st.integers(1, 8), st.integers(1, 4), st.lists(st.integers(0, 8), max_size=5))
def test_room_is_found_exactly_when_the_workers_can_be_placed(
    workers: int, each: int, nodes: list[int]
) -> None:
    """Compared with placing them one by one."""
    free, placed = list(nodes), 0
    for at, _ in enumerate(free):
        while free[at] >= each:
            free[at], placed = free[at] - each, placed + 1
    found = lacking(
        Scaling(workers=workers, cpus_per_worker=each), [{"CPU": float(n)} for n in nodes]
    )
    assert (found is None) == (placed >= workers)


# A cluster that answers otherwise

Answer = tuple[int, str]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, Answer]], str]]:
    """An HTTP server that answers by path; what it is asked for and does not know is a 404."""
    # Where other tests have set the way to a token that is not there any more.
    monkeypatch.setenv("RAY_AUTH_TOKEN", "any")
    servers: list[HTTPServer] = []

    def start(answers: dict[str, Answer]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, text = answers.get(self.path, (404, "Not found"))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: object) -> None:
                """Nothing on standard error."""

        made = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(made)
        threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{made.server_port}"

    before = os.environ.pop("RAY_API_SERVER_ADDRESS", None)
    yield start
    os.environ.pop("RAY_API_SERVER_ADDRESS", None)
    if before is not None:
        os.environ["RAY_API_SERVER_ADDRESS"] = before
    for made in servers:
        made.shutdown()
        made.server_close()


VERSION = {"/api/version": (200, '{"ray_version": "2.60.0"}')}


def test_a_cluster_that_is_away_is_told_in_seconds() -> None:
    """The address is named, and what to look at."""
    with socket.socket() as taken:  # bound and not listening: nobody can answer there
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Unavailable, match=f"http://{address} does not answer") as caught:
            JobsApi(address)
    assert "dashboard" in caught.value.hint


@pytest.mark.parametrize(
    "address", ["ray://head:10001", "http://", "http://h:port", "http://a:b@h"]
)
def test_an_address_of_something_else_is_refused(address: str) -> None:
    """Ray Client's, none at all, no number, or one with a password, which is not repeated."""
    with pytest.raises(InvalidInput, match="not the address of a Jobs API") as caught:
        JobsApi(address)
    assert "a:b" not in str(caught.value)


def test_another_server_is_not_taken_for_a_cluster(
    server: Callable[[dict[str, Answer]], str],
) -> None:
    """A port that was mistyped."""
    with pytest.raises(Unavailable, match="is not Ray's Jobs API"):
        JobsApi(server({}))
    with pytest.raises(Unavailable, match="is not Ray's Jobs API"):
        JobsApi(server({"/api/version": (200, "<html>")}))


@pytest.mark.parametrize("status", [401, 403])
def test_a_cluster_that_wants_a_token_says_where_it_goes(
    server: Callable[[dict[str, Answer]], str], status: int
) -> None:
    """Without one, and with a wrong one."""
    with pytest.raises(Refused, match="asks for its token") as caught:
        JobsApi(server({"/api/version": (status, "Unauthorized")}))
    assert "RAY_AUTH_TOKEN_PATH" in caught.value.hint


def test_the_address_that_was_given_wins_over_the_environment(
    server: Callable[[dict[str, Answer]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's own client would follow RAY_ADDRESS."""
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    assert JobsApi(server(VERSION)).ray_version == "2.60.0"


def test_a_job_that_does_not_exist_and_an_answer_that_fails(
    server: Callable[[dict[str, Answer]], str],
) -> None:
    """Each with the last line of what the cluster said."""
    api = JobsApi(server({**VERSION, "/api/jobs/odd": (500, "Traceback\nValueError: odd")}))
    with pytest.raises(NotFound, match="knows no such job"):
        api.get_job_info("none")
    assert api.find("none") is None
    with pytest.raises(Unavailable, match="answers 500: ValueError: odd"):
        api.get_job_info("odd")
    assert api.nodes() is None


def test_an_id_that_is_taken_is_a_conflict(server: Callable[[dict[str, Answer]], str]) -> None:
    """Two submissions at once: the second attaches."""
    taken = "ValueError: Job with submission_id a already exists. Please use a different one."
    api = JobsApi(server({**VERSION, "/api/jobs/a": (500, taken)}))
    with pytest.raises(Conflict, match="already exists"):
        api.get_job_info("a")


# Watching


@given(st.lists(st.text(max_size=5), max_size=6), st.data())
def test_a_log_that_is_read_again_is_shown_once(chunks: list[str], data: st.DataObject) -> None:
    """However often a connection breaks, and wherever."""
    whole, seen = "".join(chunks), list[str]()
    log = Log(seen.append)
    for _ in range(data.draw(st.integers(0, 3))):
        log.again()
        log.read(whole[: data.draw(st.integers(0, len(whole)))])
    log.again()
    for chunk in chunks:
        log.read(chunk)
    assert "".join(seen) == whole


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [("SUCCEEDED", 0, 0), ("STOPPED", None, 130), ("FAILED", 2, 2), ("FAILED", None, 1),
     ("FAILED", -9, 1)],
)  # fmt: skip
def test_the_exit_code_is_the_jobs(status: str, code: int | None, expected: int) -> None:
    """A job that never started, or was killed, has failed; one that was stopped is interrupted."""
    job = JobDetails(
        type=JobType.SUBMISSION, status=JobStatus(status), entrypoint="", driver_exit_code=code
    )
    assert exit_code(job) == expected


def test_sigterm_does_what_ctrl_c_does_even_when_a_parent_held_ctrl_c_back() -> None:
    """A stopped job books what it cost; the handler and the signal are as before afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with pytest.raises(KeyboardInterrupt), sigterm_interrupts():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    assert signal.getsignal(signal.SIGTERM) == before


# The commands


@pytest.mark.parametrize(
    "words",
    [
        ("train", "digits_cnn", "--detach"),
        ("train", "digits_cnn", "--setting", "region=DEU"),
        ("jobs", "list"),
        ("jobs", "stop", "digits-1"),
    ],
)
def test_a_command_about_jobs_needs_a_cluster(
    folder: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named, and so is the setting."""
    assert run(list(words)) == 2
    assert "STEELYARD_JOBS_ADDRESS" in capsys.readouterr().err


def test_the_cluster_may_come_from_the_settings(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And nothing is trained here instead when it is away."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("STEELYARD_JOBS_ADDRESS", address)
        assert run(["train", str(folder / "train.yaml")]) == 1
    assert f"{address} does not answer" in capsys.readouterr().err


@pytest.mark.parametrize("token", ["", "a b", "ä", "x" * 65, "../x"])
def test_a_token_that_cannot_be_part_of_an_id_is_refused(folder: Path, token: str) -> None:
    """Before anything is sent."""
    words = ["train", "digits_cnn", "--address", "127.0.0.1:9", "--submission-id", token]
    assert run(words) == 2
