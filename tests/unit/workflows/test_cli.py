import subprocess
import sys

import pytest

HEAVY = ("torch", "ray", "mlflow", "onnx", "onnxruntime", "sklearn")


@pytest.mark.parametrize(
    "module", ["steelyard_workflows.cli", "steelyard_workflows.workflow_file"]
)  # fmt: skip
def test_help_and_faults_do_not_wait_for_heavy_imports(module: str) -> None:
    """``steelyard --help`` and a misspelt key answer at once."""
    program = (
        f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    )  # fmt: skip
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_a_worker_needs_neither_mlflow_nor_the_ledgers_stores() -> None:
    """Training workers compute and report; credentials stay with the driver."""
    program = (
        "import sys, steelyard_workflows.training.loop; "
        "print([m for m in ('mlflow', 'sqlalchemy', 'sklearn') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
