"""The report as Markdown, for a terminal and for a repository."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cleave.builders.formatting import markdown_table
from cleave.perf.workload.thresholds import Verdict

NOT_KNOWN = "-"
IDLE_LOAD = 0.5
"""Load average below which a machine has nothing else to do."""
WORTH_TELLING = 0.02
"""Share of the processor time that the host keeps, above which the report says so."""


def markdown(report: Mapping[str, Any]) -> str:
    """The whole report."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    workload = report["workload"]
    yield f"# {workload['name']}"
    yield ""
    yield f"{workload['description']}."
    yield ""
    yield f"    {report['command']}"
    yield ""
    yield f"{machine_text(report)} From {report['started']} to {report['finished']}."
    for name, model in report["models"].items():
        yield ""
        yield f"## {name}"
        yield ""
        size = f" of {model['size']}" if model["size"] else ""
        built = "" if model["current"] else ", which is not what this source makes"
        served = ", served as engines of TensorRT" if model.get("engines") else ""
        yield f"`{model['name']}`{size}, build {model['fingerprint'][:12]}{built}{served}."
        for point in model["points"]:
            yield ""
            yield f"{point_text(point['at'])}:"
            yield ""
            head, *rows = table_cells(point["arms"])
            yield markdown_table(head, rows)
            for note in notes(point["arms"]):
                yield ""
                yield note
    if report["thresholds"]:
        yield ""
        yield "## Thresholds"
        yield ""
        for verdict in report["thresholds"]:
            yield f"- {Verdict(**verdict)}"


def machine_text(report: Mapping[str, Any]) -> str:
    """What a run was made on and with."""
    machine = report["machine"]
    before, after = machine["load_average"]
    busy = " The machine was shared with other work." if before > IDLE_LOAD else ""
    peaks = ""
    if limits := machine.get("limits"):
        peaks = (
            f" Measured in the same run: {limits['matrix_flops_per_s'] / 1e9:,.0f} GFLOP/s of matrix products, "
            f"{limits['memory_bytes_per_s'] / 1e9:,.1f} GB/s of memory."
        )
    if (stolen := _most_stolen(report)) >= WORTH_TELLING:
        busy += f" Its host kept up to {stolen:.0%} of an arm's processor time for other machines."
    gpus = "".join(f"{gpu}; " for gpu in machine.get("gpus", ()))
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, "
        f"{machine['system']}; {gpus}load average {before:.1f} before and {after:.1f} after the run.{busy}{peaks} "
        f"{versions}."
    )


def _most_stolen(report: Mapping[str, Any]) -> float:
    points = (point for model in report["models"].values() for point in model["points"])
    return max((arm["stolen"] for point in points for arm in point["arms"].values()), default=0.0)


def point_text(at: Mapping[str, Any]) -> str:
    """`n = 256, m = 128, 100% cached, 1 at a time`."""
    load = f"{at['concurrency']} at a time" if at["rate_per_s"] is None else f"{at['rate_per_s']:g} a second"
    return f"n = {at['histories']}, m = {at['candidate_lists']}, {at['cached_share']:.0%} cached, {load}"


def table_cells(arms: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    """The arms of one point as a table, the head first."""
    yield ["arm", "candidates/s", "p50", "p99", "hit rate", "requests", "ratio", "by FLOPs", "roofline", "of the limit"]
    for name, arm in arms.items():
        known = {key: arm[key] is not None for key in ("hit_rate", "ratio", "predicted_ratio", "predicted_ms")}
        yield [
            name,
            f"{arm['candidates_per_s']:,.0f}{_noise(arm['noise'])}",
            milliseconds(arm["p50_ms"]),
            milliseconds(arm["p99_ms"]),
            f"{arm['hit_rate']:.1%}" if known["hit_rate"] else NOT_KNOWN,
            f"{arm['requests']:,}{'*' if arm['in_proportion'] else ''}",
            f"{ratio(arm['ratio'])}{_noise(arm['ratio_noise'])}" if known["ratio"] else NOT_KNOWN,
            ratio(arm["predicted_ratio"]) if known["predicted_ratio"] else NOT_KNOWN,
            f"{milliseconds(arm['predicted_ms'])} ({arm['predicted_ms'] / arm['p50_ms'] - 1:+.0%})"
            if known["predicted_ms"]
            else NOT_KNOWN,
            f"{arm['limit_ms'] / arm['p50_ms']:.0%}" if known["predicted_ms"] else NOT_KNOWN,
        ]


def notes(arms: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What must be known to read the table."""
    for name, arm in arms.items():
        if arm["in_proportion"]:
            yield (
                f"* {name} was sent one in {arm['in_proportion']:,.0f} of the candidates of each request; its "
                "latencies are in proportion."
            )


def _noise(share: float | None) -> str:
    return "" if share is None else f" ±{share:.0%}"


def milliseconds(value: float) -> str:
    """Three digits, more of large numbers."""
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def ratio(value: float) -> str:
    """`12x`, `1.5x`."""
    return f"{value:,.0f}x" if value >= 10 else f"{value:.2g}x"
