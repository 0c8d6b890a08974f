"""``steelyard ledger report --scenario``: claims about cost, energy and size, re-done."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from steelyard.cli.output import emit, stdout, table
from steelyard.cli.scenario_file import load, shipped
from steelyard.domain.calculations import Figure
from steelyard.domain.quantities import exact
from steelyard.domain.scenario import Finding, Outcome, run, shown

COLUMNS = ("scenario", "figure", "Right", "Published", "verdict")
WORDS = {"agrees": "agrees", "refuted": "refuted", "not_published": None}


def show(source: str | None, as_json: bool) -> None:
    """Print the right figures beside the published ones: of all shipped scenarios, one, or a file.

    Raises:
        NotFound: ``source`` is neither a shipped scenario nor a file.
        InvalidInput: the file is not a usable scenario; every fault is named.
    """
    outcomes = [run(load(name)) for name in ([source] if source else shipped())]
    emit({"scenarios": [_document(o) for o in outcomes]}, as_json, lambda: _print(outcomes))


def rows(outcome: Outcome) -> list[tuple[str | None, ...]]:
    """A scenario as text, one row a figure: figure, right, published, verdict."""
    return [
        (f.figure, shown(f.right), str(f.published) if f.published else None, WORDS[f.verdict])
        for f in outcome.findings
    ]


def _print(outcomes: Sequence[Outcome]) -> None:
    cells = [
        (outcome.scenario.name if i == 0 else "", *row)
        for outcome in outcomes
        for i, row in enumerate(rows(outcome))
    ]
    stdout.print(table("Scenarios", COLUMNS, cells))
    for outcome in outcomes:
        scenario = outcome.scenario
        stdout.print(f"{scenario.name}: {scenario.claim}", markup=False)
        if scenario.source:
            stdout.print(f"  source: {scenario.source}", markup=False)
        for finding in outcome.findings:
            if finding.verdict == "refuted":
                stdout.print(f"  {_difference(finding)}", markup=False)
        if scenario.because:
            stdout.print(f"  {scenario.because}", markup=False)
    refuted = sum(outcome.verdict == "refuted" for outcome in outcomes)
    stdout.print(f"{refuted} of {len(outcomes)} refuted; – is nothing published, or unknown")


def _difference(finding: Finding) -> str:
    text = f"{finding.figure} is {shown(finding.right)}, not {finding.published}"
    if not finding.factor or finding.factor < 0:
        return text
    if finding.factor > 1:
        return f"{text}: published {_times(finding.factor)} too high"
    return f"{text}: published {_times(1 / finding.factor)} too low"


def _times(factor: Fraction) -> str:
    return f"{shown(exact(f'{float(factor):.3g}'))} times"


def _document(outcome: Outcome) -> dict[str, Any]:
    scenario = outcome.scenario
    return {
        "name": scenario.name,
        "claim": scenario.claim,
        "source": scenario.source,
        "calculation": scenario.calculation,
        "verdict": outcome.verdict,
        "because": scenario.because,
        "tolerance": float(scenario.tolerance),
        "figures": [
            {
                "figure": f.figure,
                "right": _number(f.right),
                "published_low": _number(f.published.low) if f.published else None,
                "published_high": _number(f.published.high) if f.published else None,
                "verdict": f.verdict,
                "factor": _number(f.factor),
            }
            for f in outcome.findings
        ],
    }


def _number(figure: Figure) -> int | float | str | None:
    """A whole number exactly, another as a float; words and the unknown as they are."""
    if not isinstance(figure, Fraction):
        return figure
    return figure.numerator if figure.denominator == 1 else float(figure)
