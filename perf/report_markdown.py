"""The report as Markdown, for a terminal and for a repository."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from perf.thresholds import Verdict

NOT_KNOWN = "-"


def markdown(report: Mapping[str, Any]) -> str:
    """The whole report."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    workload, machine = report["workload"], report["machine"]
    yield f"# {workload['name']}"
    yield ""
    yield f"{workload['description']}."
    yield ""
    yield f"    {report['command']}"
    yield ""
    begin, end = machine["load_average"]
    yield (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, "
        f"{machine['system']}; load average {begin:.1f} before and {end:.1f} after the run, which took from "
        f"{report['started']} to {report['finished']}. " + ", ".join(f"{k} {v}" for k, v in report["versions"].items())
    )
    for name, model in report["models"].items():
        yield ""
        yield f"## {name}"
        yield ""
        size = f" of {model['size']}" if model["size"] else ""
        built = "" if model["current"] else ", which is not what this source makes"
        yield f"`{model['name']}`{size}, build {model['fingerprint'][:12]}{built}."
        for point in model["points"]:
            yield ""
            yield f"{point_text(point['at'])}:"
            yield ""
            yield from table(point["arms"])
    if report["thresholds"]:
        yield ""
        yield "## Thresholds"
        yield ""
        for verdict in report["thresholds"]:
            yield f"- {Verdict(**verdict)}"


def point_text(at: Mapping[str, Any]) -> str:
    """`n = 256, m = 128, 100% cached, 1 at a time`."""
    load = f"{at['concurrency']} at a time" if at["rate_per_s"] is None else f"{at['rate_per_s']:g} a second"
    return f"n = {at['histories']}, m = {at['candidate_lists']}, {at['cached_share']:.0%} cached, {load}"


def table(arms: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The arms of one point as a table."""
    columns = ("arm", "candidates/s", "p50", "p99", "hit rate", "requests", "ratio", "ratio by FLOPs")
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for name, arm in arms.items():
        cells = (
            name,
            f"{arm['candidates_per_s']:,.0f}{_noise(arm['noise'])}",
            milliseconds(arm["p50_ms"]),
            milliseconds(arm["p99_ms"]),
            NOT_KNOWN if arm["hit_rate"] is None else f"{arm['hit_rate']:.1%}",
            f"{arm['requests']:,}{'*' if arm['in_proportion'] else ''}",
            NOT_KNOWN if arm["ratio"] is None else f"{ratio(arm['ratio'])}{_noise(arm['ratio_noise'])}",
            NOT_KNOWN if arm["predicted_ratio"] is None else ratio(arm["predicted_ratio"]),
        )
        yield f"| {' | '.join(cells)} |"
    for name, arm in arms.items():
        if arm["in_proportion"]:
            yield ""
            yield (
                f"\\* {name} was sent one in {arm['in_proportion']:,.0f} of the candidates of each request; its "
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
