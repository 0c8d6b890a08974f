"""``steelyard models pareto | recommend``: which variants are worth having, and which to serve."""

import re
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from steelyard.cli import pareto_picture
from steelyard.cli.output import emit, note, stdout, table
from steelyard.domain import figures
from steelyard.domain.allocation import round_half_even
from steelyard.domain.errors import Fault, InvalidInput
from steelyard.domain.model_version import parse_model, parse_ref
from steelyard.domain.pareto import Axis, AxisName, Placed, told_apart
from steelyard.domain.prospect import Prospect
from steelyard.domain.quantities import exact
from steelyard.domain.recommend import Ask, Total
from steelyard.domain.recommend_lines import (
    arithmetic,
    money,
    pay_back,
    per_1000,
    prospects,
    standing,
)
from steelyard.services.choosing import Advice
from steelyard.services.comparisons import Sheet
from steelyard.settings import load_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
IDLE = ("basis usage: the time in which replicas wait is left out; it is taken to cost the same "
        "whichever version they hold")  # fmt: skip


def add_commands(app: typer.Typer) -> None:
    """Add both to the commands of ``models``."""
    app.command("pareto")(pareto)
    app.command("recommend")(recommend)


def pareto(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    against: Annotated[
        AxisName, typer.Option(help="The cost that quality is held against.")
    ] = "latency",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.svg|.png", help="Draw the picture, too.")
    ] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show a model's versions by quality and one cost: the best trades, and what they dominate."""
    from steelyard.bootstrap import Platform

    if out is not None:
        pareto_picture.check_file(out)
    sheet = Platform(load_settings()).comparisons.pareto(parse_model(model), against)
    if out is not None:
        pareto_picture.draw(sheet, out)
        note(f"{out} written")
    emit(_sheet_document(sheet), as_json, lambda: _show_sheet(sheet))


def recommend(
    model: Annotated[str, typer.Argument(metavar="MODEL[/VERSION|@ALIAS]")],
    requests_per_day: Annotated[int, typer.Option(metavar="N", help="Expected requests.")],
    latency_class: Annotated[
        str, typer.Option(metavar="TIME", help="Bound of p95 at batch 1: 100ms, 0.5s.")
    ],
    max_loss: Annotated[
        str,
        typer.Option(metavar="POINTS", help="Bound of lost quality, at the interval's worse end."),
    ],
    horizon_days: Annotated[
        int, typer.Option(metavar="DAYS", help="Days over which costs are added up.")
    ] = 90,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Name the variant to serve for so many requests, or say which kind to make."""
    from steelyard.bootstrap import Platform

    loss = _points(max_loss)
    ask = Ask(requests_per_day, _milliseconds(latency_class), loss, horizon_days)
    advice = Platform(load_settings()).choosing.recommend(parse_ref(model), ask)
    emit(_advice_document(advice), as_json, lambda: _show_advice(advice))


def _milliseconds(text: str) -> Fraction:
    """``100ms``, ``0.5s``; a number alone is milliseconds."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s)?", text.strip())
    if found is None:
        fault = Fault("--latency-class", f"{text!r} is no time")
        raise InvalidInput(str(fault), (fault,), "For example 100ms or 0.5s.")
    return exact(found[1]) * (1_000 if found[2] == "s" else 1)


def _points(text: str) -> Fraction:
    try:
        return exact(text)
    except InvalidInput as error:
        fault = Fault("--max-loss", f"{text!r} is no number of points")
        raise InvalidInput(str(fault), (fault,), "For example 0.5: half a point.") from error


def _show_sheet(sheet: Sheet) -> None:
    columns = ("Version", "variant", "Accuracy", "95 % interval", sheet.axis.title, "Of parent",
               "place")  # fmt: skip
    title = f"{sheet.model}: quality against {sheet.axis.name}"
    stdout.print(table(title, columns, (_cells(one, sheet) for one in sheet.placed)))
    stdout.print(sheet.caption, markup=False)


def _cells(one: Placed, sheet: Sheet) -> tuple[object, ...]:
    p = one.point
    interval = None if p.low is None or p.high is None else f"{p.low:.4f} to {p.high:.4f}"
    variant = p.variant if p.parent is not None else f"{p.variant} (baseline)"
    return (p.version, variant, None if p.quality is None else f"{p.quality:.4f}", interval,
            _cost(p.cost, sheet.axis), None if p.of_parent is None else f"{float(p.of_parent):.3g}",
            _place(one, sheet))  # fmt: skip


def _cost(cost: Fraction | None, axis: Axis) -> str:
    if cost is None:
        return figures.UNKNOWN
    if axis.unit == "bytes":
        return figures.size(int(cost))
    return money(cost) if axis.unit == "nUSD" else f"{float(cost):.3g} {axis.unit}"


def _place(one: Placed, sheet: Sheet) -> str:
    if one.place == "front":
        return "on the front"
    if one.place == "apart":
        return f"not compared: {one.point.apart}"
    if one.place == "unknown":
        return f"unknown: {one.point.missing}"
    points = {other.point.version: other.point for other in sheet.placed}
    sure = any(told_apart(points[version], one.point) for version in one.by)
    by = ", ".join(map(str, one.by))
    return f"dominated by {by}" + ("" if sure else " (quality not told apart)")


def _sheet_document(sheet: Sheet) -> dict[str, Any]:
    def known(value: Fraction | None) -> float | None:
        return None if value is None else float(value)

    return {
        "model": sheet.model, "against": sheet.axis.name, "unit": sheet.axis.unit,
        "hardware": dict(sheet.hardware), "this_hardware": sheet.here, "labels": sheet.labels,
        "energy_methods": sheet.energy_methods,
        "price_id": sheet.price.price_id if sheet.price else None,
        "versions": [
            {"version": p.version, "variant": p.variant, "parent": p.parent,
             "accuracy": p.quality, "accuracy_low": p.low, "accuracy_high": p.high,
             "cost": known(p.cost), "of_parent": known(p.of_parent), "place": one.place,
             "dominated_by": one.by, "why": p.apart or p.missing}
            for one in sheet.placed for p in [one.point]
        ],
    }  # fmt: skip


def _show_advice(advice: Advice) -> None:
    found = advice.found
    columns = (
        "Version",
        "variant",
        "Per 1,000 requests",
        f"{found.ask.horizon_days} days",
        "gates",
    )
    rows = [(t.candidate.version, t.candidate.variant, per_1000(t.candidate.cost), money(t.value),
             standing(t)) for t in found.totals]  # fmt: skip
    stdout.print(table(f"{advice.model}/{advice.baseline} and its variants", columns, rows))
    for line in _answer(advice):
        stdout.print(line, markup=False)


def _answer(advice: Advice) -> Iterator[str]:
    found, best = advice.found, advice.found.best
    if best is None:
        yield f"Serve: none of the versions of {advice.model}/{advice.baseline} passes."
    else:
        yield f"Serve: {advice.model}/{found.serve} ({best.candidate.variant})"
        yield from (f"  {line}" for line in arithmetic(best, found.ask))
        yield f"  {IDLE}"
    if advice.price is None:
        yield "  no price is declared for the serving device: see steelyard ledger prices add"
    if found.make is None:
        yield "Make: nothing, as far as is known" if best else "Make: no kind is known that would."
    else:
        baseline = f"{advice.model}/{advice.baseline}"
        (chosen,) = (one for one in found.prospects if one.kind.name == found.make)
        yield f"Make: {found.make}; pay-back {pay_back(chosen)}"
        yield f"  steelyard compress {baseline} --variant {found.make}"
    yield from (f"  {line}" for line in prospects(found))
    if advice.anchor is not None:
        yield f"Estimates start from {advice.anchor.source}."


def _advice_document(advice: Advice) -> dict[str, Any]:
    found, ask = advice.found, advice.found.ask
    return {
        "model": advice.model, "baseline": advice.baseline,
        "asked": {"requests_per_day": ask.requests_per_day, "horizon_days": ask.horizon_days,
                  "latency_class_ms": float(ask.latency_class_ms),
                  "max_loss_points": float(ask.max_loss)},
        "policy": asdict(advice.policy), "basis": "usage",
        "price_id": advice.price.price_id if advice.price else None,
        "estimated_from": advice.anchor.source if advice.anchor else None,
        "serve": found.serve, "make": found.make, "arithmetic": list(_answer(advice)),
        "versions": [_total(one) for one in found.totals],
        "kinds": [_kind(one) for one in found.prospects],
    }  # fmt: skip


def _total(total: Total) -> dict[str, Any]:
    one, cost = total.candidate, total.candidate.cost
    return {
        "version": one.version, "variant": one.variant, "passes": one.passes,
        "why": standing(total), "findings": [asdict(f) for f in one.findings],
        "cost_basis": cost.basis,
        "per_1000_nano": _nano(cost.value, 1_000), "per_1000_low_nano": _nano(cost.low, 1_000),
        "per_1000_high_nano": _nano(cost.high, 1_000), "days": cost.days,
        "making_to_pay_nano": 0, "total_nano": _nano(total.value),
        "total_low_nano": _nano(total.low), "total_high_nano": _nano(total.high),
    }  # fmt: skip


def _kind(one: Prospect) -> dict[str, Any]:
    paid = one.pay_back
    return {
        "kind": one.kind.name, "measured": [p.name for p in one.kind.precedents],
        "passes": one.passes, "making_nano": [_nano(end) for end in one.making_nano or ()] or None,
        "per_1000_nano": [_nano(end, 1_000) for end in one.request_nano or ()] or None,
        "total_nano": _nano(one.total), "worth_nano": _nano(one.worth_nano),
        "pay_back": one.verdict,
        "pay_back_requests": _nano(paid.requests),
        "pay_back_days": None if paid.days is None else float(paid.days),
    }  # fmt: skip


def _nano(value: Fraction | None, times: int = 1) -> int | None:
    return None if value is None else round_half_even(value * times)
