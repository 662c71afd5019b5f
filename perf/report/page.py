"""The report as one page that needs nothing else: plots, tables and how they were measured."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cleave.perf.report.colours import style_rules
from cleave.perf.report.markdown import NOT_KNOWN, build_text, machine_text, milliseconds, notes, table_cells
from cleave.perf.report.plots import plots_of_model
from cleave.perf.report.report import ArmReport, RunReport

TEMPLATE = Path(__file__).with_name("page.html.j2")


def page_from_report(report: RunReport) -> str:
    """The whole report as HTML; light or dark as the reader's system is."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE.name).render(
        report=report,
        colours=Markup(style_rules()),
        build_text=build_text,
        machine_text=machine_text,
        notes=notes,
        plots_of_model=plots_of_model,
        shell_line=shlex.join,
        stage_cells=_stage_cells,
        table_cells=table_cells,
    )


def _stage_cells(arms: Mapping[str, ArmReport]) -> Iterator[list[str]]:
    """Where the time of a request goes in each arm, as a table; the head comes first."""
    stages = list(dict.fromkeys(stage for arm in arms.values() for stage in arm.stages_ms))
    yield ["mean of a request", *stages]
    for name, arm in arms.items():
        times = (arm.stages_ms.get(stage) for stage in stages)
        yield [name, *(NOT_KNOWN if time is None else milliseconds(time) for time in times)]
