"""What replicas on this machine logged."""

from collections.abc import Generator, Sequence
from pathlib import Path

from steelyard.bootstrap.counting import counters
from steelyard.settings import Settings


def replica_log_files(settings: Settings, model: str, version: int | None) -> list[Path]:
    """What replicas of a version, or of every version of a model, logged on this machine."""
    from steelyard.adapters.replica_logs import replica_files

    pids = [one.pid for one in counters(settings).living()
            if one.served.model == model and version in (None, one.served.version)]  # fmt: skip
    application = f"{model}-v{'[0-9]*' if version is None else version}"
    return replica_files(settings.ray_temp_dir / "session_latest", application, pids)


def log_tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log."""
    from steelyard.adapters.replica_logs import tail

    return tail(path, lines)


def follow_logs(
    paths: "Sequence[Path]", lines: int
) -> "Generator[tuple[Path, str], None, None]":  # fmt: skip
    """The last lines of each log, then lines as they come to any of them, without end."""
    from steelyard.adapters.replica_logs import follow

    return follow(paths, lines)
