"""``python -m steelyard.cli.supervise``: the supervisor's own process, started by ``up``."""

from steelyard.bootstrap.processes import process_specs, supervisor
from steelyard.settings import load_settings


def main() -> None:
    """Run every process of the platform until SIGTERM."""
    settings = load_settings()
    supervisor(settings).run(process_specs(settings))


if __name__ == "__main__":
    main()
