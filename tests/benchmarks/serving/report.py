"""What was found, as Markdown: medians over rounds with the least and the most, and ratios.

A ratio is taken within a round, because what else the machine does moves both of its sides.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from load import Found

Level = tuple[str, int]
"""A network and a number of connections."""


@dataclass(frozen=True, slots=True)
class Measured:
    """All that one round found: by contender and level."""

    found: Mapping[tuple[str, Level], Found]
    in_process_ms: Mapping[str, float]
    half: Mapping[str, Found]


def spread(values: Sequence[float], form: Callable[[float], str] = "{:,.0f}".format) -> str:
    """Median (least to most)."""
    if not values:
        return ""
    middle = form(statistics.median(values))
    return f"{middle} ({form(min(values))} to {form(max(values))})"


def rows(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(
        f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines)
    )  # fmt: skip


def speed(rounds: Sequence[Measured], ours: str, level: Level) -> str:
    """Every contender at one level, the fastest first."""
    names = {name for one in rounds for name, at in one.found if at == level}
    figures = {name: [one.found[name, level] for one in rounds] for name in names}
    order = sorted(names, key=lambda name: -_middle(figures[name]))
    head = ("", "requests/s", "p50 ms", "p99 ms", f"{ours} / it", "failed")
    return rows(head, [_line(name, figures[name], figures[ours]) for name in order])


def _middle(figures: Sequence[Found]) -> float:
    return statistics.median(one.requests_per_s for one in figures)


def _line(name: str, figures: Sequence[Found], ours: Sequence[Found]) -> tuple[str, ...]:
    ratios = [a.requests_per_s / b.requests_per_s for a, b in zip(ours, figures, strict=True)]
    return (
        name,
        spread([one.requests_per_s for one in figures]),
        spread([one.p50_ms for one in figures], "{:.2f}".format),
        spread([one.p99_ms for one in figures], "{:.2f}".format),
        "" if ours is figures else spread(ratios, "{:.2f}".format),
        str(sum(one.failed for one in figures)),
    )


def claims(
    rounds: Sequence[Measured], ours: str, bare: str, peers: Sequence[str], levels: Sequence[Level]
) -> str:  # fmt: skip
    """What was aimed at, what was found, and whether it holds for the median."""
    lines = [_times_best(rounds, ours, peers, level) for level in levels]
    lines += [_of_bare(rounds, ours, bare, level) for level in levels]
    for network, connections in levels:
        if connections == 1:
            more = [one.found[ours, (network, 1)].p50_ms - one.in_process_ms[network]
                    for one in rounds]  # fmt: skip
            lines.append(_claim(f"{network}: p50 at one connection above onnxruntime in process, "
                                "ms", "≤ 1.5", more, lambda value: value <= 1.5))  # fmt: skip
    for network in rounds[0].half:
        late = [one.half[network].p99_ms for one in rounds]
        rate = statistics.median(one.half[network].requests_per_s for one in rounds)
        lines.append(_claim(f"{network}: p99 at half of saturation ({rate:,.0f}/s, open loop), ms",
                            "≤ 10", late, lambda value: value <= 10))  # fmt: skip
    return rows(("", "aim", "found", ""), lines)


def _times_best(
    rounds: Sequence[Measured], ours: str, peers: Sequence[str], level: Level
) -> tuple[str, ...]:  # fmt: skip
    ratios = [
        one.found[ours, level].requests_per_s
        / max(one.found[peer, level].requests_per_s for peer in peers)
        for one in rounds
    ]
    what = f"{level[0]}, c={level[1]}: times the requests/s of the best peer"
    return _claim(what, "≥ 2", ratios, lambda value: value >= 2)


def _of_bare(rounds: Sequence[Measured], ours: str, bare: str, level: Level) -> tuple[str, ...]:
    ratios = [
        one.found[ours, level].requests_per_s / one.found[bare, level].requests_per_s
        for one in rounds
    ]
    what = f"{level[0]}, c={level[1]}: of the bare handler's requests/s on the same Ray path"
    return _claim(what, "≥ 0.85", ratios, lambda value: value >= 0.85)


def _claim(
    what: str, aim: str, values: Sequence[float], holds: Callable[[float], bool]
) -> tuple[str, ...]:  # fmt: skip
    said = "holds" if holds(statistics.median(values)) else "**fails**"
    return what, aim, spread(values, "{:.2f}".format), said
