"""Draws the figures of arms: each function fills the axes of one plot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from cleave.builders.predict.arms import ARMS
from cleave.perf.report.colours import colour_of
from cleave.perf.report.markdown import milliseconds, ratio
from cleave.perf.report.report import ArmReport, PointReport
from cleave.perf.run.stages import STAGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Arms = Mapping[str, ArmReport]
Points = Sequence[PointReport]
PointFigure = Callable[[PointReport, str], float]
"""A figure of one arm, by name, at a point."""

SCALES = {"history": "events of a user (n)", "candidates": "candidates of a request (m)"}
UNKNOWN_MARKER = "x"
"""The marker of an arm that an older report has and this version has not."""


def _rows(axes: Axes, arms: Arms) -> dict[str, int]:
    """A row for each arm, the first on top."""
    axes.set_yticks(range(len(arms)), list(arms))
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    return {name: place for place, name in enumerate(arms)}


def short_number(value: float) -> str:
    """A number of an axis: `1,000`, `100k`, `0.1`."""
    for unit, size in (("M", 1e6), ("k", 1e4)):
        if value >= size:
            return f"{value / (1e3 if unit == 'k' else size):g}{unit}"
    return f"{value:,g}"


def draw_rates(axes: Axes, arms: Arms) -> None:
    """Candidates/s: the median, and the span of the rounds."""
    rows = _rows(axes, arms)
    axes.set_xscale("log")
    for name, arm in arms.items():
        rounds = arm.candidates_per_s_of_rounds
        axes.barh(rows[name], arm.candidates_per_s, 0.6, color=colour_of(name))
        axes.plot([min(rounds), max(rounds)], [rows[name]] * 2, color=colour_of("text"), linewidth=1.2)
        at = max(rounds) * 1.1
        axes.text(at, rows[name], f"{arm.candidates_per_s:,.0f}", va="center")
    axes.set_xlim(min(arm.candidates_per_s for arm in arms.values()) / 3, axes.get_xlim()[1] * 6)
    axes.set_xlabel("candidates/s; the line spans the rounds")


def draw_latencies(axes: Axes, arms: Arms) -> None:
    """Latency: the median, and the 99th percentile at the end of the line."""
    rows = _rows(axes, arms)
    axes.set_xscale("log")
    for name, arm in arms.items():
        axes.plot([arm.p50_ms, arm.p99_ms], [rows[name]] * 2, color=colour_of(name), linewidth=2)
        axes.plot(arm.p50_ms, rows[name], "o", color=colour_of(name), markersize=7)
        axes.plot(arm.p99_ms, rows[name], "|", color=colour_of(name), markersize=12)
        axes.text(arm.p99_ms * 1.15, rows[name], milliseconds(arm.p50_ms), va="center")
    axes.set_xlim(right=axes.get_xlim()[1] * 5)
    axes.set_xlabel("ms")


def draw_ratios(axes: Axes, arms: Arms) -> None:
    """The ratio to the baseline: measured (filled) and by FLOPs (open)."""
    rows = _rows(axes, arms)
    axes.set_xscale("log")
    for name, arm in arms.items():
        if arm.ratio is None:
            continue
        axes.plot(arm.ratio, rows[name], "o", color=colour_of(name), markersize=8)
        if arm.predicted_ratio:
            axes.plot(arm.predicted_ratio, rows[name], "o", color=colour_of(name), markersize=8, markerfacecolor="none")
        right = max(arm.ratio, arm.predicted_ratio or 0)
        axes.text(right * 1.25, rows[name], ratio(arm.ratio), va="center")
    axes.set_xlim(right=axes.get_xlim()[1] * 4)
    axes.set_xlabel("times the candidates/s of per_candidate")


def draw_stages(axes: Axes, arms: Arms) -> None:
    """The share of each stage in the time of a request."""
    rows = _rows(axes, arms)
    used = [stage for stage in STAGES if any(stage in arm.stages_ms for arm in arms.values())]
    lefts = dict.fromkeys(arms, 0.0)
    for stage in used:
        for name, arm in arms.items():
            total = sum(arm.stages_ms.values())
            share = 100 * arm.stages_ms.get(stage, 0.0) / total if total else 0.0
            axes.barh(rows[name], share, 0.6, left=lefts[name], color=colour_of(stage))
            lefts[name] += share
        axes.barh(0, 0, color=colour_of(stage), label=stage)
    for name, arm in arms.items():
        total = sum(arm.stages_ms.values())
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


def draw_limits(axes: Axes, arms: Arms) -> None:
    """The least time that the processor's peaks allow, as a share of the median latency."""
    rows = _rows(axes, arms)
    for name, arm in arms.items():
        if arm.limit_ms is not None and arm.limit_share is not None:
            share = 100 * arm.limit_share
            axes.barh(rows[name], share, 0.6, color=colour_of(name))
            axes.text(share + 1, rows[name], f"{share:.0f}% ({milliseconds(arm.limit_ms)})", va="center")
    axes.set_xlim(0, max(100.0, axes.get_xlim()[1]) * 1.5)
    axes.set_xlabel("least time by peaks over the median latency, %")


def _lines(axes: Axes, points: Points, x: PointFigure, y: PointFigure) -> None:
    """A line for each arm, with a mark for each point at which it was measured."""
    for name in points[-1].arms:
        pairs = [(x(point, name), y(point, name)) for point in points if name in point.arms]
        axes.plot(*zip(*pairs, strict=True), _marker(name), linestyle="-", color=colour_of(name), label=name)
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2, fontsize=9, labelspacing=0.2)


def _marker(name: str) -> str:
    return ARMS[name].marker if name in ARMS else UNKNOWN_MARKER


def draw_scaling(axes: Axes, points: Points, axis: str) -> None:
    """Median latency over the lengths of one axis, `history` or `candidates`."""
    _lines(axes, points, lambda point, _: getattr(point.at, axis), lambda point, arm: point.arms[arm].p50_ms)
    axes.set_xscale("log")
    axes.set_yscale("log")
    sizes = [getattr(point.at, axis) for point in points]
    axes.set_xticks(sizes, [short_number(size) for size in sizes])
    axes.set_xlabel(SCALES[axis])
    axes.set_ylabel("p50, ms")


def draw_shares(axes: Axes, points: Points) -> None:
    """Candidates/s over the share of users whose summary is kept."""

    def hit_percent(point: PointReport, arm: str) -> float:
        rate = point.arms[arm].hit_rate
        return 100 * (point.at.cached_share if rate is None else rate)

    _lines(axes, points, hit_percent, lambda point, arm: point.arms[arm].candidates_per_s)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: short_number(value))
    axes.set_xlabel("hit rate, % (without a cache: share of users)")
    axes.set_ylabel("candidates/s")


def draw_loads(axes: Axes, points: Points) -> None:
    """Median latency over candidates/s, a mark for each load."""
    _lines(
        axes,
        points,
        lambda point, arm: point.arms[arm].candidates_per_s,
        lambda point, arm: point.arms[arm].p50_ms,
    )
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: short_number(value))
    axes.set_xlabel("candidates/s")
    axes.set_ylabel("p50, ms")
