"""Writes a report in its three forms: JSON for programs, Markdown and a page for people; reads the first back."""

from __future__ import annotations

from pathlib import Path

import msgspec

from cleave.builders.files import write_text
from cleave.perf.errors import PerfError
from cleave.perf.report.markdown import markdown_from_report
from cleave.perf.report.page import page_from_report
from cleave.perf.report.report import FORMAT, RunReport

JSON_FILE, MARKDOWN_FILE, PAGE_FILE = "report.json", "report.md", "report.html"


def write_report(report: RunReport, folder: Path) -> list[Path]:
    """Write all forms of a report. Returns the files."""
    texts = {
        JSON_FILE: report.to_json(),
        MARKDOWN_FILE: markdown_from_report(report),
        PAGE_FILE: page_from_report(report),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def read_report(file: Path) -> RunReport:
    """A report that was written as JSON.

    Raises:
        PerfError: the file is not a report, or is one of another format.
    """
    try:
        report = RunReport.from_json(file.read_text())
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise PerfError(f"{file}: expected a report of `cleave bench`, got: {error}; name its {JSON_FILE}") from error
    if report.format != FORMAT:
        raise PerfError(f"{file}: expected a report of format {FORMAT}, got {report.format}; measure it again")
    return report
