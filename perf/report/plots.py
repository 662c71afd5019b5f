"""The plots of a report, as SVG that takes its colours from the page."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from cleave.perf.report import drawings
from cleave.perf.report.colours import colour_of, with_variables
from cleave.perf.report.drawings import SCALES, Points, short_number
from cleave.perf.report.report import ModelReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_IN, HEIGHT_IN = 4.5, 2.9
"""Small, so that text can be read where the page is as narrow as a telephone."""


class Plot(NamedTuple):
    """A drawing with what it shows."""

    title: str
    svg: str


def plots_of_model(name: str, model: ModelReport) -> Iterator[Plot]:
    """All plots that the points of a model give."""
    for number, (title, draw) in enumerate(_drawings(model)):
        yield Plot(title, _svg(f"{name} {number}", draw))


def _drawings(model: ModelReport) -> Iterator[tuple[str, Callable[[Axes], None]]]:
    """The title of each plot, and the function that fills its axes."""
    arms, points = model.last.arms, model.points
    yield "Candidates a second", partial(drawings.draw_rates, arms=arms)
    yield "Latency of a request: p50, and p99 at the end of the line", partial(drawings.draw_latencies, arms=arms)
    if any(arm.ratio is not None for arm in arms.values()):
        title = "Ratio to per_candidate: measured (filled) and by FLOPs (open)"
        yield title, partial(drawings.draw_ratios, arms=arms)
    yield "Where the time of a request goes", partial(drawings.draw_stages, arms=arms)
    if any(arm.limit_ms is not None for arm in arms.values()):
        title = "Share of the machine's limit: matrix products and memory"
        yield title, partial(drawings.draw_limits, arms=arms)
    for axis, label in SCALES.items():
        if len(along := points_along(points, axis)) > 1:
            yield f"Latency against {label}", partial(drawings.draw_scaling, points=along, axis=axis)
    if len(along := points_along(points, "cached_share")) > 1:
        title = "Candidates a second against the share of users cached"
        yield title, partial(drawings.draw_shares, points=along)
    if len(along := points_along(points, "concurrency", "rate_per_s")) > 1:
        yield "Throughput against latency (p50), by load", partial(drawings.draw_loads, points=along)


def points_along(points: Points, *names: str) -> Points:
    """The points that differ from the last one in nothing but these."""
    fixed = attrgetter(*({"history", "candidates", "cached_share", "concurrency", "rate_per_s"} - set(names)))
    along = [point for point in points if fixed(point.at) == fixed(points[-1].at)]
    return sorted(along, key=lambda point: tuple(getattr(point.at, name) or 0 for name in names))


def _svg(salt: str, draw: Callable[[Axes], None]) -> str:
    """One drawing; `salt` keeps the names in it apart from those in the other drawings of the page."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    text, faint = colour_of("text"), colour_of("faint")
    settings: Any = {
        "svg.hashsalt": salt,
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 10,
        "text.color": text,
        "axes.labelcolor": text,
        "axes.edgecolor": faint,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": text,
        "ytick.color": text,
        "grid.color": faint,
        "legend.frameon": False,
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        axes.set_axisbelow(True)
        axes.grid(visible=True, linewidth=0.6)
        draw(axes)
        _as_written(axes)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    svg = written.getvalue()
    return with_variables(svg[svg.index("<svg") :])


def _as_written(axes: Axes) -> None:
    """Numbers on axes as people write them, and on logarithmic ones at powers of ten only."""
    from matplotlib.ticker import FixedFormatter, FuncFormatter, NullFormatter  # noqa: PLC0415

    for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
        if scale == "log" and not isinstance(axis.get_major_formatter(), FixedFormatter):
            axis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
        if scale == "log":
            axis.set_minor_formatter(NullFormatter())
