"""Register files as models.

    STEELYARD_HOME=… python register_models.py NAME=FILE…

A name that comes again gets a further version. The run holds nothing but the files.
"""

import sys
from pathlib import Path

from steelyard.settings import load_settings
from steelyard_workflows.environment import prepare


def main() -> None:
    """Register all, in this order."""
    settings = load_settings()
    prepare(settings)
    import mlflow

    from steelyard_workflows.export import artifact
    from steelyard_workflows.register import Entry, register

    mlflow.set_tracking_uri(settings.registry_uri)
    for word in sys.argv[1:]:
        name, _, file = word.partition("=")
        if mlflow.get_experiment_by_name(name) is None:
            mlflow.create_experiment(name, (settings.artifact_root / name).as_uri())
        mlflow.set_experiment(name)
        with mlflow.start_run() as run:
            entry = Entry(name, run.info.run_id, "fp32", "trained", flops=None, evidence=None)
            register(settings, artifact(Path(file)), entry)


if __name__ == "__main__":
    main()
