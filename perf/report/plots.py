"""The plots of a report, as SVG that takes its colours from the page."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cleave.builders.predict.arms import ARMS
from cleave.perf.report.colours import colour_of, with_variables
from cleave.perf.report.markdown import milliseconds, ratio
from cleave.perf.run.turn import STAGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Arms = Mapping[str, Mapping[str, Any]]
Points = Sequence[Mapping[str, Any]]

WIDTH_IN, HEIGHT_IN = 4.5, 2.9
"""Small, so that text can be read where the page is as narrow as a telephone."""
SCALES = {"history": "events of a user (n)", "candidates": "candidates of a request (m)"}
UNKNOWN_MARKER = "x"
"""Of an arm that an older report has and this version has not."""


class Plot(NamedTuple):
    """A drawing with what it shows."""

    title: str
    svg: str


def plots_of_model(name: str, model: Mapping[str, Any]) -> Iterator[Plot]:
    """All plots that the points of a model give."""
    arms, points = model["arms"], model["points"]
    yield _plot(f"{name} rate", "Candidates a second", _rates, arms)
    yield _plot(f"{name} latency", "Latency of a request: p50, and p99 at the end of the line", _latencies, arms)
    if any(arm["ratio"] is not None for arm in arms.values()):
        yield _plot(f"{name} ratio", "Ratio to per_candidate: measured (filled) and by FLOPs (open)", _ratios, arms)
    yield _plot(f"{name} stages", "Where the time of a request goes", _stages, arms)
    if any(arm.get("limit_ms") for arm in arms.values()):
        yield _plot(f"{name} limit", "Share of the machine's limit: matrix products and memory", _limits, arms)
    for axis, label in SCALES.items():
        if len(along := points_along(points, axis)) > 1:
            title = f"Latency against {label}"
            yield _plot(f"{name} {axis}", title, lambda axes, of, axis=axis: _scaling(axes, of, axis), along)
    if len(along := points_along(points, "cached_share")) > 1:
        yield _plot(f"{name} share", "Candidates a second against the share of users cached", _shares, along)
    if len(along := points_along(points, "concurrency", "rate_per_s")) > 1:
        yield _plot(f"{name} load", "Throughput against latency (p50), by load", _loads, along)


def points_along(points: Points, *names: str) -> Points:
    """The points that differ from the last one in nothing but these."""
    last = points[-1]["at"]
    fixed = {"history", "candidates", "cached_share", "concurrency", "rate_per_s"} - set(names)
    along = [point for point in points if all(point["at"][name] == last[name] for name in fixed)]
    return sorted(along, key=lambda point: tuple(point["at"][name] or 0 for name in names))


def _plot(salt: str, title: str, draw: Any, data: Any) -> Plot:
    """`salt` keeps names inside one drawing apart from those of the others of the page."""
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
        draw(axes, data)
        _as_written(axes)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    svg = written.getvalue()
    return Plot(title, with_variables(svg[svg.index("<svg") :]))


def _rows(axes: Axes, arms: Arms) -> dict[str, int]:
    """A row for each arm, the first on top."""
    axes.set_yticks(range(len(arms)), list(arms))
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    return {name: place for place, name in enumerate(arms)}


def _as_written(axes: Axes) -> None:
    """Numbers on axes as people write them, and on logarithmic ones at powers of ten only."""
    from matplotlib.ticker import FixedFormatter, FuncFormatter, NullFormatter  # noqa: PLC0415

    for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
        if scale == "log" and not isinstance(axis.get_major_formatter(), FixedFormatter):
            axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        if scale == "log":
            axis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    """`1,000`, `100k`, `0.1`."""
    for unit, size in (("M", 1e6), ("k", 1e4)):
        if value >= size:
            return f"{value / (1e3 if unit == 'k' else size):g}{unit}"
    return f"{value:,g}"


def _rates(axes: Axes, arms: Arms) -> None:
    rows = _rows(axes, arms)
    axes.set_xscale("log")
    for name, arm in arms.items():
        rounds = arm["candidates_per_s_of_rounds"]
        axes.barh(rows[name], arm["candidates_per_s"], 0.6, color=colour_of(name))
        axes.plot([min(rounds), max(rounds)], [rows[name]] * 2, color=colour_of("text"), linewidth=1.2)
        at = max(rounds) * 1.1
        axes.text(at, rows[name], f"{arm['candidates_per_s']:,.0f}", va="center")
    axes.set_xlim(min(arm["candidates_per_s"] for arm in arms.values()) / 3, axes.get_xlim()[1] * 6)
    axes.set_xlabel("candidates/s; the line spans the rounds")


def _latencies(axes: Axes, arms: Arms) -> None:
    rows = _rows(axes, arms)
    axes.set_xscale("log")
    for name, arm in arms.items():
        axes.plot([arm["p50_ms"], arm["p99_ms"]], [rows[name]] * 2, color=colour_of(name), linewidth=2)
        axes.plot(arm["p50_ms"], rows[name], "o", color=colour_of(name), markersize=7)
        axes.plot(arm["p99_ms"], rows[name], "|", color=colour_of(name), markersize=12)
        axes.text(arm["p99_ms"] * 1.15, rows[name], milliseconds(arm["p50_ms"]), va="center")
    axes.set_xlim(right=axes.get_xlim()[1] * 5)
    axes.set_xlabel("ms")


def _ratios(axes: Axes, arms: Arms) -> None:
    rows = _rows(axes, arms)
    axes.set_xscale("log")
    for name, arm in arms.items():
        axes.plot(arm["ratio"], rows[name], "o", color=colour_of(name), markersize=8)
        if arm["predicted_ratio"]:
            axes.plot(
                arm["predicted_ratio"], rows[name], "o", color=colour_of(name), markersize=8, markerfacecolor="none"
            )
        right = max(arm["ratio"], arm["predicted_ratio"] or 0)
        axes.text(right * 1.25, rows[name], ratio(arm["ratio"]), va="center")
    axes.set_xlim(right=axes.get_xlim()[1] * 4)
    axes.set_xlabel("times the candidates/s of per_candidate")


def _stages(axes: Axes, arms: Arms) -> None:
    rows = _rows(axes, arms)
    used = [stage for stage in STAGES if any(stage in arm["stages_ms"] for arm in arms.values())]
    lefts = dict.fromkeys(arms, 0.0)
    for stage in used:
        for name, arm in arms.items():
            total = sum(arm["stages_ms"].values())
            share = 100 * arm["stages_ms"].get(stage, 0.0) / total if total else 0.0
            axes.barh(rows[name], share, 0.6, left=lefts[name], color=colour_of(stage))
            lefts[name] += share
        axes.barh(0, 0, color=colour_of(stage), label=stage)
    for name, arm in arms.items():
        total = sum(arm["stages_ms"].values())
        axes.text(102, rows[name], milliseconds(total) if total else "not known", va="center")
    axes.set_xlim(0, 132)
    axes.set_xticks(range(0, 101, 25), [f"{share}%" for share in range(0, 101, 25)])
    axes.legend(
        loc="lower center",
        bbox_to_anchor=(0.4, 1.0),
        ncols=4,
        fontsize=8.5,
        columnspacing=1,
        handlelength=1,
        labelspacing=0.2,
    )


def _limits(axes: Axes, arms: Arms) -> None:
    rows = _rows(axes, arms)
    for name, arm in arms.items():
        if arm.get("limit_ms"):
            share = 100 * arm["limit_ms"] / arm["p50_ms"]
            axes.barh(rows[name], share, 0.6, color=colour_of(name))
            axes.text(share + 1, rows[name], f"{share:.0f}% ({milliseconds(arm['limit_ms'])})", va="center")
    axes.set_xlim(0, max(100.0, axes.get_xlim()[1]) * 1.5)
    axes.set_xlabel("least time by peaks over the median latency, %")


def _lines(axes: Axes, points: Points, x: Any, y: Any) -> None:
    for name in points[-1]["arms"]:
        pairs = [(x(point, name), y(point, name)) for point in points if name in point["arms"]]
        axes.plot(*zip(*pairs, strict=True), _marker(name), linestyle="-", color=colour_of(name), label=name)
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2, fontsize=9, labelspacing=0.2)


def _marker(name: str) -> str:
    return ARMS[name].marker if name in ARMS else UNKNOWN_MARKER


def _scaling(axes: Axes, points: Points, axis: str) -> None:
    _lines(axes, points, lambda point, _: point["at"][axis], lambda point, arm: point["arms"][arm]["p50_ms"])
    axes.set_xscale("log")
    axes.set_yscale("log")
    sizes = [point["at"][axis] for point in points]
    axes.set_xticks(sizes, [_short(size) for size in sizes])
    axes.set_xlabel(SCALES[axis])
    axes.set_ylabel("p50, ms")


def _shares(axes: Axes, points: Points) -> None:
    def measured(point: Any, arm: str) -> float:
        rate = point["arms"][arm]["hit_rate"]
        return 100 * float(point["at"]["cached_share"] if rate is None else rate)

    _lines(axes, points, measured, lambda point, arm: point["arms"][arm]["candidates_per_s"])
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: _short(value))
    axes.set_xlabel("hit rate, % (without a cache: share of users)")
    axes.set_ylabel("candidates/s")


def _loads(axes: Axes, points: Points) -> None:
    _lines(
        axes,
        points,
        lambda point, arm: point["arms"][arm]["candidates_per_s"],
        lambda point, arm: point["arms"][arm]["p50_ms"],
    )
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    axes.set_xlabel("candidates/s")
    axes.set_ylabel("p50, ms")
