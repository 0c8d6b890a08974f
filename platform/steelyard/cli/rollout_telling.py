"""How the command line tells of rollouts: a line each, a table of all arms, a document."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from steelyard.bootstrap import Platform
from steelyard.cli.output import emit, stdout, table
from steelyard.domain.candidates import stable_share
from steelyard.domain.rollout import Rollout


def tell(rollouts: Sequence[Rollout], as_json: bool) -> None:
    """A line for each of them; as a document the only one itself, or all as ``rollouts``."""
    documents = [document(one) for one in rollouts]

    def show() -> None:
        for one in rollouts:
            line = f"{one.model}/{one.candidate}: {one.condition}, {one.reason}"
            stdout.print(line, markup=False)

    emit(documents[0] if len(documents) == 1 else {"rollouts": documents}, as_json, show)


def document(rollout: Rollout) -> dict[str, Any]:
    """Everything that is kept of a rollout."""
    return {**asdict(rollout), "phase": rollout.phase}


def arms_table(platform: Platform, rollouts: Sequence[Rollout]) -> Table:
    """Weight, requests, errors and wrong answers of stable and of every candidate."""
    first = rollouts[0]
    counts = {
        row["version"]: row
        for row in platform.predictions.counts(first.model, since_us=first.created_us)
    }
    arms = [(one.candidate, "canary", one.weight_bp) for one in rollouts]
    if first.stable is not None:
        arms.insert(0, (first.stable, "stable", stable_share(rollouts)))
    rows = []
    for version, arm, weight in arms:
        row = counts.get(version, {})
        rows.append((
            version, arm, f"{weight / 100:g} %", row.get("requests", 0), row.get("errors", 0),
            f"{row['wrong']} of {row['labelled']}" if row.get("labelled") else None,
        ))  # fmt: skip
    title = "\n".join(_title(platform, one, len(rollouts) > 1) for one in rollouts)
    return table(title, ("Version", "arm", "Weight", "Requests", "Errors", "Wrong"), rows)


def attempt(platform: Platform, rollout: Rollout) -> int:
    """How often this pair of versions was tried in the same cohort, this time included."""
    return len(platform.rollout_store.earlier_attempts(rollout)) + 1


def _title(platform: Platform, rollout: Rollout, is_one_of_several: bool) -> str:
    name = f"{rollout.model}/{rollout.candidate}" if is_one_of_several else rollout.model
    number = attempt(platform, rollout)
    again = f" (attempt {number})" if number > 1 else ""
    return f"{name}{again}: {rollout.condition} – {rollout.reason}"
