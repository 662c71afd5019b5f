"""Writes a report: as JSON for programs, as Markdown and as a page for people."""

from __future__ import annotations

import json
from pathlib import Path

from cleave.perf.errors import PerfError
from cleave.perf.report.markdown import markdown
from cleave.perf.report.page import page
from cleave.perf.report.report import FORMAT, Report

JSON_FILE, MARKDOWN_FILE, PAGE_FILE = "report.json", "report.md", "report.html"


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write all forms of a report. Returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        JSON_FILE: json.dumps(report, indent=1) + "\n",
        MARKDOWN_FILE: markdown(report),
        PAGE_FILE: page(report),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in texts]


def read_report(file: Path) -> Report:
    """A report that was written as JSON.

    Raises:
        PerfError: it is none.
    """
    try:
        report = json.loads(file.read_text())
        found = report["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PerfError(f"{file}: expected a report of `cleave bench`, got: {error}; name its {JSON_FILE}") from error
    if found != FORMAT:
        raise PerfError(f"{file}: expected a report of format {FORMAT}, got {found}; measure it again")
    return dict(report)
