"""Draws the pictures of `docs/amortization.md`: what a processor is predicted to make of history and candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cleave.builders.files import write_text
from cleave.builders.predict.amortization import PAYS, Amortization
from cleave.builders.predict.arms import TRITON_ARMS
from cleave.builders.reports.roofline import roofline_report
from cleave.builders.spec import Axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import BoundaryNorm
    from matplotlib.figure import Figure

FIGURES_PAGE = "amortization_figures.md"
GRID = 25
"""The number of points along each side of a map."""
LEVELS = (1, PAYS, 1.5, 2, 3, 5, 10, 30, 100, 1000)
"""Bounds of the colours of a map: how many times as fast."""
PANEL = (3.6, 3.4)
"""The size of a panel in inches."""

Answers = Sequence[Amortization]


def write_pictures(answers: Answers, folder: Path) -> list[Path]:
    """One picture for each question as SVG, a panel or a line for each model; returns the files.

    Args:
        answers: one for each model, all on one processor; each has a history axis.
    """
    import matplotlib  # noqa: PLC0415 - slow to import

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    with matplotlib.rc_context({"svg.hashsalt": "cleave", "svg.fonttype": "none", "font.size": 9.0}):
        for name, draw in PICTURES.items():
            files.append(folder / f"amortization_{name}.svg")
            figure = draw(answers)
            figure.text(0, 0, _subscript(answers[0]), fontsize=7, color="#666666", va="top")
            figure.savefig(files[-1], metadata={"Date": None}, bbox_inches="tight", facecolor="white")
    return files


def figures(answer: Amortization) -> str:
    """The prediction of every arm of one model, and where each pays, as `cleave inspect --gpu` prints it."""
    at = ", ".join(f"{axis} {size:,}" for axis, size in answer.sizes.items())
    text = roofline_report(answer.cut, answer.processor, answer.sizes, answer.precision)
    return f"{answer.cut.ranker.name}, one request of one user: {at}\n{text}"


def write_figures(texts: Sequence[str], folder: Path) -> Path:
    """The `figures` of all models as one page; returns the file."""
    file = folder / FIGURES_PAGE
    blocks = "\n\n".join(f"```text\n{text}\n```" for text in texts)
    write_text(file, f"# Predicted figures\n\nWritten by `cleave amortization`.\n\n{blocks}\n")
    return file


def _subscript(answer: Amortization) -> str:
    how = "measured peaks" if answer.processor.measured else "predicted from its data sheet, nothing was run on a GPU"
    return f"{answer.processor.name}, {answer.precision}: {how}"


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure  # noqa: PLC0415

    width, height = PANEL
    figure = Figure(figsize=(width * count, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _axes_of(answer: Amortization) -> tuple[Axis, Axis]:
    history = answer.cut.ranker.history_axis
    assert history is not None, "checked by the command"
    return history, answer.cut.ranker.candidate_axis


def _points(axis: Axis, count: int = GRID) -> list[int]:
    """The sizes of an axis that are drawn, evenly apart on a log scale."""
    return sorted({int(size) for size in np.geomspace(axis.min, axis.max, count).round()})


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2 if y == "candidates m" else 10)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _balance(answers: Answers) -> Figure:
    """Draw, over history and candidates, how many times the throughput a kept summary gives."""
    figure, panels = _panels(len(answers))
    for answer, axes in zip(answers, panels, strict=True):
        history, candidates = _axes_of(answer)
        ns, ms = _points(history), _points(candidates)
        gains = [[_gain(answer, {history.name: n, candidates.name: m}) for n in ns] for m in ms]
        filled = axes.contourf(ns, ms, np.maximum(gains, 1), levels=LEVELS, extend="max", cmap="YlGnBu", norm=_steps())
        equal = [(n, most) for n in ns if (most := _at(answer, {history.name: n}).balance()) is not None]
        ns_equal, ms_equal = [n for n, _ in equal], [most for _, most in equal]
        axes.plot(ns_equal, ms_equal, color="#c0392b", linewidth=1.8, label="encoder = scorer")
        _label(axes, answer.cut.ranker.name, "events n", "candidates m")
        axes.legend(loc="lower right", fontsize=8)
    figure.colorbar(
        filled, ax=panels, label="cached over single_pass, throughput", ticks=LEVELS, format="%gx", spacing="uniform"
    )
    return figure


def _gain(answer: Amortization, sizes: Mapping[str, int]) -> float:
    return answer.ms("single_pass", "throughput", **sizes) / answer.ms("cached", "throughput", **sizes)


def _steps() -> BoundaryNorm:
    """Colours that are equally far apart for every two levels."""
    from matplotlib.colors import BoundaryNorm  # noqa: PLC0415

    return BoundaryNorm(LEVELS, 256, extend="max")


def _at(answer: Amortization, sizes: Mapping[str, int]) -> Amortization:
    return Amortization(answer.cut, answer.processor, {**answer.sizes, **sizes}, answer.precision)


def _candidates(answers: Answers) -> Figure:
    """Draw the latency of a request in each arm over the candidates."""
    figure, panels = _panels(len(answers))
    for answer, axes in zip(answers, panels, strict=True):
        history, candidates = _axes_of(answer)
        ms = _points(candidates, 2 * GRID)
        for place, arm in enumerate(TRITON_ARMS):
            axes.plot(ms, [answer.ms(arm, "latency", **{candidates.name: m}) for m in ms], f"C{place}", label=arm)
        if (most := answer.balance()) is not None:
            axes.axvline(most, color="#888888", linewidth=1, linestyle=":", label="encoder = scorer")
        title = f"{answer.cut.ranker.name}, n = {answer.sizes[history.name]:,}"
        _label(axes, title, "candidates m", "latency of a request, ms")
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    return figure


def _micro_batch(answers: Answers) -> Figure:
    """Draw the throughput of the scorer on one stream, and how long a call takes, over the candidates of one call."""
    figure, (rate, time) = _panels(2)
    for place, answer in enumerate(answers):
        _, candidates = _axes_of(answer)
        sizes = _points(candidates, 2 * GRID)
        rates = np.array([answer.candidates_per_s(size) for size in sizes])
        rate.plot(sizes, rates, f"C{place}", label=answer.cut.ranker.name)
        enough = answer.micro_batch()
        rate.plot(enough, answer.candidates_per_s(enough), f"C{place}o")
        time.plot(sizes, np.array(sizes) / rates * 1000, f"C{place}", label=answer.cut.ranker.name)
    _label(rate, "throughput of the scorer (dot: 90% of its best)", "candidates a call", "candidates/s, one stream")
    _label(time, "time of one call", "candidates a call", "ms")
    for axes in (rate, time):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def _summary(answers: Answers) -> Figure:
    """Draw, over the history, how long encoding takes and how long a kept summary takes across the link."""
    figure, (axes, gain) = _panels(2)
    for place, answer in enumerate(answers):
        history, _ = _axes_of(answer)
        ns = _points(history)
        at = [_at(answer, {history.name: n}) for n in ns]
        axes.plot(ns, [each.encoder_ms() for each in at], f"C{place}", label=f"{answer.cut.ranker.name}: encode")
        if answer.processor.link_bytes_per_s is not None:
            crossing = [each.summary_link_ms() for each in at]
            axes.plot(ns, crossing, f"C{place}", linestyle="--", label=f"{answer.cut.ranker.name}: fetch")
        rates = [(n, rate) for n, each in zip(ns, at, strict=True) if (rate := each.store_bytes_per_s())]
        gain.plot([n for n, _ in rates], [rate for _, rate in rates], f"C{place}", label=answer.cut.ranker.name)
    _label(axes, "work of encoding, summary over the link", "events n", "ms")
    _label(gain, "slowest store worth asking", "events n", "bytes/s")
    for panel in (axes, gain):
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7)
    return figure


PICTURES: dict[str, Callable[[Answers], Figure]] = {
    "balance": _balance,
    "candidates": _candidates,
    "micro_batch": _micro_batch,
    "summary": _summary,
}
"""What draws each picture, by the end of its file's name."""
