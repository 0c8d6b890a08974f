"""Quality against one cost as a picture for a page: points, front, labels, where it was measured.

Colours are those of Okabe and Ito, told apart by every kind of colour blindness; nothing is said
by colour alone. The same sheet makes the same bytes.
"""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.cli.label_places import Box, Label, label_places
from steelyard.domain.errors import Fault, InvalidInput, Refused, Unavailable
from steelyard.domain.pareto import Placed
from steelyard.services.comparisons import Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE_IN = (7.0, 4.6)
DPI = 200
DOT = DPI / 72
"""Pixels of one typographic point."""
FORMATS = (".svg", ".png")
SCALES = {
    "bytes": ((1_000, "kB"), (1_000_000, "MB"), (1_000_000_000, "GB")),
    "nUSD": ((1_000, "millionths of a US dollar"), (1_000_000, "thousandths of a US dollar"),
             (1_000_000_000, "US dollars")),
}  # fmt: skip
BLUE, ORANGE, GREY, INK = "#0072B2", "#D55E00", "#7F7F7F", "#222222"
DECADE = 10
LOOK: dict[Any, Any] = {
    "svg.hashsalt": "steelyard", "font.size": 9, "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": INK,
    "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
}  # fmt: skip
Spot = tuple[Placed, float, float]
"""A point with its place on the axes: cost in the shown unit, quality in percent."""


def check_file(path: Path) -> None:
    """Refuse a file that no picture can be written to, before anything is computed.

    Raises:
        InvalidInput: its name ends in neither .svg nor .png, or there is no such folder.
    """
    what = ""
    if path.suffix.lower() not in FORMATS:
        what = f"{path.name!r} ends in neither .svg nor .png"
    elif not path.resolve().parent.is_dir():
        what = f"there is no folder {path.resolve().parent}"
    if what:
        fault = Fault("--out", what)
        raise InvalidInput(str(fault), (fault,), "For example --out pareto.svg.")


def draw(sheet: Sheet, path: Path) -> None:
    """Write the picture.

    Raises:
        Refused: no version has a figure to draw.
        Unavailable: matplotlib is not installed, or the file cannot be written.
    """
    if all(one.place == "unknown" for one in sheet.placed):
        why = "; ".join(sorted({one.point.missing for one in sheet.placed}))
        raise Refused(f"There is nothing to draw: {sheet.model} has no known figure ({why}).",
                      "Measure its versions here: steelyard models measure.")  # fmt: skip
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Unavailable(
            "A picture needs matplotlib, which is not installed.",
            "Install steelyard[workflows], or leave --out away: the table needs nothing.",
        ) from error
    with rc_context(LOOK):
        figure = Figure(figsize=SIZE_IN, dpi=DPI, layout="constrained")
        renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
        _compose(figure, renderer, sheet)
        stamp = {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}
        try:
            figure.savefig(path, dpi=DPI, metadata=stamp)
        except OSError as error:
            raise Unavailable(f"{path} cannot be written: {error.strerror}.") from error


def _compose(figure: "Figure", renderer: Any, sheet: Sheet) -> None:
    divisor, unit = _unit(sheet)
    spots = [
        (one, float(one.point.cost / Fraction(divisor)), 100 * one.point.quality)
        for one in sheet.placed
        if one.point.cost is not None and one.point.quality is not None
    ]
    axes = figure.subplots()
    axes.set_xlabel(f"{sheet.axis.title} ({unit})")
    axes.set_ylabel("Accuracy (%)")
    _scale(axes, [x for _, x, _ in spots])
    bars = [_draw_spot(axes, spot) for spot in spots]
    steps = _front([spot for spot in spots if spot[0].place == "front"])
    _limits(axes, spots)
    if steps:
        steps.append((axes.get_xlim()[1], steps[-1][1]))
        axes.plot(*zip(*steps, strict=True), color=BLUE, linewidth=1.2, zorder=1)
    _key(figure, [one for one, _, _ in spots])
    figure.supxlabel(sheet.caption, x=0.01, ha="left", fontsize=7, color=GREY, parse_math=False)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    axes.autoscale(False)  # lines to labels must move nothing
    _name(axes, renderer, spots, [*bars, *_segments(steps)])


def _unit(sheet: Sheet) -> tuple[int, str]:
    """The largest unit in which the greatest cost is at least 1."""
    scale = SCALES.get(sheet.axis.unit, ((1, sheet.axis.unit),))
    top = max((one.point.cost or Fraction(0) for one in sheet.placed), default=Fraction(0))
    return max((one for one in scale if top >= one[0]), default=scale[0])


def _scale(axes: "Axes", costs: Sequence[float]) -> None:
    """Logarithmic from more than a decade on, with ticks that read as numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = min(costs, default=1), max(costs, default=1)
    axes.grid(color="#E6E6E6", linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    if low <= 0 or high <= DECADE * low:
        return
    axes.set_xscale("log")
    subs = (1, 2, 5) if high < DECADE**2 * low else (1,)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _limits(axes: "Axes", spots: Sequence[Spot]) -> None:
    """Room around the points, so that there is a place for every label."""
    costs = [x for _, x, _ in spots] or [1.0]
    low, high = min(costs), max(costs)
    if axes.get_xscale() == "log":
        room = (high / low) ** 0.16
        axes.set_xlim(low / room, high * room)
    else:
        room = 0.18 * ((high - low) or high or 1)
        axes.set_xlim(max(0.0, low - room), high + room)
    axes.margins(y=0.12)


def _draw_spot(axes: "Axes", spot: Spot) -> tuple[float, float, float, float]:
    """The marker with its interval; answers the interval's two ends."""
    one, x, y = spot
    point, front = one.point, one.place == "front"
    colour = BLUE if front else GREY
    low = y if point.low is None else 100 * point.low
    high = y if point.high is None else 100 * point.high
    axes.plot([x, x], [low, high], color=colour, linewidth=0.9, alpha=0.55, zorder=2,
              solid_capstyle="butt")  # fmt: skip
    mark = "x" if one.place == "apart" else "D" if point.parent is None else "o"
    edge = ORANGE if point.parent is None and mark != "x" else colour
    axes.plot(x, y, marker=mark, markersize=9 if mark == "D" else 6.5, linestyle="none",
              markeredgewidth=1.3, zorder=3, markeredgecolor=edge,
              markerfacecolor=edge if front else "white")  # fmt: skip
    return x, low, x, high


def _front(spots: Sequence[Spot]) -> list[tuple[float, float]]:
    """What can be had at each cost: right from every point of the front, then up to the next."""
    steps: list[tuple[float, float]] = []
    for _, x, y in sorted(spots, key=lambda spot: spot[1:]):
        if steps:
            steps.append((x, steps[-1][1]))
        steps.append((x, y))
    return steps


def _segments(steps: Sequence[tuple[float, float]]) -> list[tuple[float, float, float, float]]:
    return [(*one, *other) for one, other in pairwise(steps)]


def _key(figure: "Figure", drawn: Sequence[Placed]) -> None:
    """What the marks mean; only those that are there."""
    from matplotlib.lines import Line2D

    def mark(shape: str, edge: str, face: str, text: str) -> Line2D:
        return Line2D([], [], marker=shape, linestyle="none", markersize=6, markeredgewidth=1.3,
                      markeredgecolor=edge, markerfacecolor=face, label=text)  # fmt: skip

    places = {one.place for one in drawn}
    shown = [Line2D([], [], color=BLUE, marker="o", markersize=6, linewidth=1.2,
                    label="on the front")]  # fmt: skip
    if "dominated" in places:
        shown.append(mark("o", GREY, "white", "dominated (hollow)"))
    if baselines := {one.place for one in drawn if one.point.parent is None} - {"apart"}:
        face = ORANGE if "front" in baselines else "white"
        shown.append(mark("D", ORANGE, face, "baseline (parent)"))
    if "apart" in places:
        shown.append(mark("x", GREY, GREY, "measured elsewhere, not compared"))
    figure.legend(handles=shown, loc="outside upper center", ncols=len(shown), frameon=False,
                  fontsize=8, handletextpad=0.4, columnspacing=1.6)  # fmt: skip


def _name(
    axes: "Axes", renderer: Any, spots: Sequence[Spot],
    drawn: Sequence[tuple[float, float, float, float]],
) -> None:  # fmt: skip
    """Every point's label beside it, with a thin line where it had to go further away."""
    from matplotlib.patheffects import withStroke

    texts = [axes.text(x, y, f"{one.point.variant} (v{one.point.version})", fontsize=7.5, zorder=4,
                       parse_math=False) for one, x, y in spots]  # fmt: skip
    to_pixels = axes.transData.transform
    labels = []
    for text, (_, x, y) in zip(texts, spots, strict=True):
        size, (left, bottom) = text.get_window_extent(renderer), to_pixels((x, y))
        labels.append(Label(left / DOT, bottom / DOT, size.width / DOT + 2, size.height / DOT))
    markers = [Box(one.x, one.y, one.x, one.y).grown(4.5) for one in labels]
    ends = [(to_pixels(line[:2]) / DOT, to_pixels(line[2:]) / DOT) for line in drawn]
    lines = [Box(*map(min, one, other), *map(max, one, other)).grown(0.6) for one, other in ends]
    around = axes.get_window_extent(renderer)
    frame = Box(around.x0 / DOT, around.y0 / DOT, around.x1 / DOT, around.y1 / DOT)
    back = axes.transData.inverted().transform
    for text, label, box in zip(texts, labels, label_places(labels, frame, markers, lines),
                                strict=True):  # fmt: skip
        middle = back(((box.left + box.right) / 2 * DOT, (box.bottom + box.top) / 2 * DOT))
        text.set(position=middle, ha="center", va="center_baseline")
        text.set_path_effects([withStroke(linewidth=2, foreground="white")])
        if label.doubtful(box, labels):
            near = back([end * DOT for end in box.nearest(label.x, label.y)])
            point = back((label.x * DOT, label.y * DOT))
            axes.plot(*zip(point, near, strict=True), color=INK, linewidth=0.5, zorder=2.5)
