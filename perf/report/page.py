"""The report as one page that needs nothing else: plots, tables and how they were made."""

from __future__ import annotations

import html
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from cleave.perf.report.colours import style_rules
from cleave.perf.report.markdown import machine_text, milliseconds, notes, point_text, table_cells
from cleave.perf.report.plots import plots_of_model
from cleave.perf.workload.thresholds import Verdict

_STYLE = """
*{box-sizing:border-box}
body{margin:0;background:var(--background);color:var(--text);font:16px/1.5 system-ui,sans-serif}
main{max-width:1240px;margin:0 auto;padding:1rem}
h1{margin:.5rem 0}h2{margin:2.5rem 0 .5rem;border-bottom:1px solid var(--faint)}h3{margin:1.5rem 0 .5rem}
p{max-width:70ch}
code,pre{font:13px/1.5 ui-monospace,monospace}
pre{overflow-x:auto;padding:.75rem;border:1px solid var(--faint);border-radius:6px;white-space:pre-wrap;
overflow-wrap:anywhere}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:1.25rem}
figure{margin:0;padding:.75rem;border:1px solid var(--faint);border-radius:8px;min-width:0}
figcaption{font-weight:600;margin-bottom:.5rem}
svg{display:block;width:100%;height:auto}
.table{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:14px}
th,td{padding:.35rem .7rem;text-align:right;border-bottom:1px solid var(--faint);white-space:nowrap}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--background)}
ul.verdicts{list-style:none;padding:0}
.holds::before{content:"✓ ";color:var(--cached)}.fails::before{content:"✗ ";color:var(--queue)}
.fails{font-weight:600}
summary{cursor:pointer;margin:.75rem 0}
"""


def page(report: Mapping[str, Any]) -> str:
    """The whole report as HTML; light or dark as the reader's system is."""
    workload = report["workload"]
    return "\n".join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            f"<title>cleave bench {_text(workload['name'])}</title>",
            f"<style>{style_rules()}{_STYLE}</style></head><body><main>",
            f"<h1>{_text(workload['name'])}</h1><p>{_text(workload['description'])}.</p>",
            *_verdicts(report),
            *(line for name, model in report["models"].items() for line in _model(name, model)),
            *_made(report),
            "</main></body></html>\n",
        ]
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _verdicts(report: Mapping[str, Any]) -> Iterator[str]:
    if report["thresholds"]:
        yield '<ul class="verdicts">'
        for entry in report["thresholds"]:
            yield f'<li class="{"holds" if entry["holds"] else "fails"}">{_text(Verdict(**entry).said)}</li>'
        yield "</ul>"


def _model(name: str, model: Mapping[str, Any]) -> Iterator[str]:
    size = f" of {model['size']}" if model["size"] else ""
    yield f"<h2>{_text(name)}</h2>"
    yield f"<p><code>{_text(model['name'])}</code>{_text(size)}, build <code>{model['fingerprint'][:12]}</code>. "
    yield f"The plots are of {_text(point_text(model['at']))}, where they do not say otherwise.</p>"
    yield '<div class="plots">'
    for plot in plots_of_model(name, model):
        yield f'<figure><figcaption>{_text(plot.title)}</figcaption><div role="img" aria-label="{_text(plot.title)}">'
        yield f"{plot.svg}</div></figure>"
    yield "</div>"
    for point in model["points"]:
        yield f"<h3>{_text(point_text(point['at']))}</h3>"
        yield from _table(table_cells(point["arms"]))
        yield from (f"<p>{_text(note)}</p>" for note in notes(point["arms"]))
    yield "<details><summary>Stages, rounds and commands</summary>"
    yield from _table(_stage_rows(model["arms"]))
    for arm, entry in model["arms"].items():
        rounds = ", ".join(f"{rate:,.0f}" for rate in entry["candidates_per_s_of_rounds"])
        yield f"<p><code>{_text(arm)}</code>, candidates/s of each round: {rounds}</p>"
        if entry["command"]:
            yield f"<pre>{_text(shlex.join(entry['command']))}</pre>"
    yield "</details>"


def _stage_rows(arms: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    stages = list(dict.fromkeys(stage for arm in arms.values() for stage in arm["stages_ms"]))
    yield ["mean of a request", *stages]
    for name, arm in arms.items():
        cells = (arm["stages_ms"].get(stage) for stage in stages)
        yield [name, *("-" if cell is None else milliseconds(cell) for cell in cells)]


def _table(rows: Iterator[list[str]]) -> Iterator[str]:
    head, *body = rows
    yield '<div class="table" tabindex="0"><table><thead><tr>'
    yield "".join(f"<th>{_text(cell)}</th>" for cell in head)
    yield "</tr></thead><tbody>"
    for row in body:
        yield f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>"
    yield "</tbody></table></div>"


def _made(report: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>How this was made</h2>"
    yield f"<pre>{_text(report['command'])}</pre><p>{_text(machine_text(report))}</p>"
    yield f"<p>From {_text(report['started'])} to {_text(report['finished'])}.</p>"
    yield "<p>Candidates a second and ratios are medians over the rounds, in which the arms take turns; ± is half the "
    yield "distance between the fastest and the slowest round. Latencies are of all requests. The ratio by FLOPs says "
    yield "what would be if every FLOP took equally long and nothing else took any time.</p>"
