"""The report as Markdown, for a terminal and for a repository."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cleave.builders.formatting import markdown_table
from cleave.perf.report.report import ArmReport, ModelReport, RunReport

NOT_KNOWN = "-"
IDLE_LOAD = 0.5
"""The load average below which a machine counts as idle."""
WORTH_TELLING = 0.02
"""The share of the processor time kept by the host from which on the report mentions it."""


def markdown_from_report(report: RunReport) -> str:
    """The whole report."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: RunReport) -> Iterator[str]:
    yield f"# {report.workload['name']}"
    yield ""
    yield f"{report.workload['description']}."
    yield ""
    yield f"    {report.command}"
    yield ""
    yield f"{machine_text(report)} From {report.started} to {report.finished}."
    for name, model in report.models.items():
        yield ""
        yield f"## {name}"
        yield ""
        yield f"`{model.name}`{build_text(model)}."
        for point in model.points:
            yield ""
            yield f"{point.at}:"
            yield ""
            head, *rows = table_cells(point.arms)
            yield markdown_table(head, rows)
            for note in notes(point.arms):
                yield ""
                yield note
    if report.thresholds:
        yield ""
        yield "## Thresholds"
        yield ""
        yield from (f"- {verdict}" for verdict in report.thresholds)


def build_text(model: ModelReport) -> str:
    """What follows the name of a model: its sizes, and which build of it was measured."""
    size = f" of {model.size}" if model.size else ""
    built = "" if model.current else ", which is not what this source makes"
    served = ", served as engines of TensorRT" if model.engines else ""
    return f"{size}, build {model.fingerprint[:12]}{built}{served}"


def machine_text(report: RunReport) -> str:
    """The machine of a run, how busy it was, its peaks, and the versions of the software."""
    machine = report.machine
    before, after = machine.load_average
    busy = " The machine was shared with other work." if before > IDLE_LOAD else ""
    peaks = ""
    if machine.limits is not None:
        peaks = (
            f" Measured in the same run: {machine.limits.matrix_flops_per_s / 1e9:,.0f} GFLOP/s of matrix products, "
            f"{machine.limits.memory_bytes_per_s / 1e9:,.1f} GB/s of memory."
        )
    if (stolen := _most_stolen(report)) >= WORTH_TELLING:
        busy += f" Its host kept up to {stolen:.0%} of an arm's processor time for other machines."
    gpus = "".join(f"{gpu}; " for gpu in machine.gpus)
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return (
        f"{machine.processor}, {machine.cores} cores, {machine.memory_bytes / 2**30:.0f} GiB, "
        f"{machine.system}; {gpus}load average {before:.1f} before and {after:.1f} after the run.{busy}{peaks} "
        f"{versions}."
    )


def _most_stolen(report: RunReport) -> float:
    points = (point for model in report.models.values() for point in model.points)
    return max((arm.stolen for point in points for arm in point.arms.values()), default=0.0)


def table_cells(arms: Mapping[str, ArmReport]) -> Iterator[list[str]]:
    """The arms of one point as a table; the head comes first."""
    yield ["arm", "candidates/s", "p50", "p99", "hit rate", "requests", "ratio", "by FLOPs", "roofline", "of the limit"]
    for name, arm in arms.items():
        yield [
            name,
            f"{arm.candidates_per_s:,.0f}{_noise(arm.noise)}",
            milliseconds(arm.p50_ms),
            milliseconds(arm.p99_ms),
            NOT_KNOWN if arm.hit_rate is None else f"{arm.hit_rate:.1%}",
            f"{arm.requests:,}{'*' if arm.in_proportion else ''}",
            NOT_KNOWN if arm.ratio is None else f"{ratio(arm.ratio)}{_noise(arm.ratio_noise)}",
            NOT_KNOWN if arm.predicted_ratio is None else ratio(arm.predicted_ratio),
            NOT_KNOWN
            if arm.predicted_ms is None
            else f"{milliseconds(arm.predicted_ms)} ({arm.predicted_ms / arm.p50_ms - 1:+.0%})",
            NOT_KNOWN if arm.limit_share is None else f"{arm.limit_share:.0%}",
        ]


def notes(arms: Mapping[str, ArmReport]) -> Iterator[str]:
    """What one must know to read the table."""
    for name, arm in arms.items():
        if arm.in_proportion:
            yield (
                f"* {name} was sent one in {arm.in_proportion:,.0f} of the candidates of each request; its "
                "latencies are in proportion."
            )


def _noise(share: float | None) -> str:
    return "" if share is None else f" ±{share:.0%}"


def milliseconds(value: float) -> str:
    """A time with three digits, or more if it is large."""
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def ratio(value: float) -> str:
    """`12x`, `1.5x`."""
    return f"{value:,.0f}x" if value >= 10 else f"{value:.2g}x"
