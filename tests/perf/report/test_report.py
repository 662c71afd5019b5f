from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cleave.perf.machine.environment import ProcessorTime, describe_host, processor_time, versions
from cleave.perf.report.colours import COLOURS
from cleave.perf.report.files import read_report, write_report
from cleave.perf.report.markdown import markdown_from_report, table_cells
from cleave.perf.report.page import page_from_report
from cleave.perf.report.plots import plots_of_model, points_along
from cleave.perf.report.report import RunReport
from tests.tables import markdown_rows

RECORDED = Path(__file__).parents[1] / "recorded" / "report.json"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
DOCS = Path(__file__).parents[3] / "docs"
VOID = {"meta", "link", "br", "img", "hr"}
ARMS = ("per_candidate", "single_pass", "uncached", "cached")


@pytest.fixture
def content() -> dict[str, Any]:
    """The JSON of a recorded report."""
    found: dict[str, Any] = json.loads(RECORDED.read_text())
    return found


def report_of(content: dict[str, Any]) -> RunReport:
    return RunReport.from_json(json.dumps(content))


@pytest.fixture
def report(content: dict[str, Any]) -> RunReport:
    return report_of(content)


@pytest.fixture
def sweep(content: dict[str, Any]) -> RunReport:
    """A report of several sizes, shares and loads."""
    swept = copy.deepcopy(content)
    points = swept["models"]["append"]["points"]
    last = points[-1]
    for change in (
        {"history": 64, "histories": "64"},
        {"candidates": 16, "candidate_lists": "16"},
        {"cached_share": 0.5},
        {"concurrency": 4},
        {"concurrency": None, "rate_per_s": 20.0},
    ):
        points.insert(0, copy.deepcopy(last) | {"at": last["at"] | change})
    return report_of(swept)


class Page(HTMLParser):
    """Every tag that opens must close, and nothing may be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_host_taking_processor_time_is_mentioned(content: dict[str, Any]) -> None:
    assert "for other machines" not in markdown_from_report(report_of(content))
    content["models"]["append"]["points"][-1]["arms"]["cached"]["stolen"] = 0.21
    text = markdown_from_report(report_of(content))
    assert "Its host kept up to 21% of an arm's processor time for other machines." in text


def test_a_gpu_and_its_driver_are_named(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert describe_host().gpus == () or shutil.which("nvidia-smi")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    script = '[ "$*" = "--query-gpu=name,driver_version --format=csv,noheader" ] && echo "NVIDIA L4, 580.65.06"'
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    content["machine"] |= asdict(describe_host())
    assert "; NVIDIA L4, 580.65.06; load average" in markdown_from_report(report_of(content))


def test_a_server_that_runs_is_named_instead_of_the_package() -> None:
    named = versions("2.51.0", {"triton": "2.71.0"})
    assert named["triton"] == "2.71.0"
    assert "nvidia-pytriton" in versions("2.51.0")
    assert "nvidia-pytriton" not in named


def test_stolen_time_is_a_share_of_what_was_asked_for() -> None:
    before = ProcessorTime(busy=100, stolen=10)
    assert ProcessorTime(busy=130, stolen=20).stolen_since(before) == 0.25
    assert before.stolen_since(before) == 0.0
    assert processor_time().busy > 0


def test_markdown_has_every_arm_of_every_model(report: RunReport) -> None:
    text = markdown_from_report(report)
    assert "cleave bench smoke" in text
    for model in ("append", "vista"):
        assert f"## {model}" in text
    for arm in ARMS:
        assert [row[0] for row in markdown_rows(text)].count(arm) == 2


def test_the_page_is_well_formed_and_fetches_nothing(sweep: RunReport) -> None:
    read = Page(page_from_report(sweep))
    assert not read.open
    assert read.seen.count("figure") >= 10
    assert not [link for link in read.links if not link.startswith(("#", "data:"))]
    assert "script" not in read.seen


def test_a_plot_has_no_colour_but_the_pages(report: RunReport) -> None:
    for plot in plots_of_model("append", report.models["append"]):
        assert "var(--text)" in plot.svg
        assert not [colour for colour in COLOURS.values() if colour.placeholder in plot.svg]
        assert "#000000" not in plot.svg


def test_sizes_shares_and_loads_have_plots_of_their_own(sweep: RunReport, report: RunReport) -> None:
    titles = [plot.title for plot in plots_of_model("append", sweep.models["append"])]
    for part in ("against events", "against candidates", "share of users cached", "by load"):
        assert [title for title in titles if part in title], part
    assert len(list(plots_of_model("append", report.models["append"]))) == len(titles) - 4


def test_a_plot_along_one_axis_holds_all_others(sweep: RunReport) -> None:
    points = sweep.models["append"].points
    assert [point.at.history for point in points_along(points, "history")] == [64, 256]
    assert len(points_along(points, "concurrency", "rate_per_s")) == 3


def test_what_a_threshold_says_is_on_the_page(content: dict[str, Any]) -> None:
    content["thresholds"][0]["holds"] = False
    text = page_from_report(report_of(content))
    assert '<li class="fails">' in text
    assert "per_candidate (measured" in text


def test_names_are_escaped(content: dict[str, Any]) -> None:
    content["workload"]["description"] = "<script>alert(1)</script>"
    text = page_from_report(report_of(content))
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_all_forms_are_written(report: RunReport, tmp_path: Path) -> None:
    files = write_report(report, tmp_path / "out")
    assert [file.name for file in files] == ["report.json", "report.md", "report.html"]
    assert read_report(files[0]) == report
    assert files[0].read_bytes() == RECORDED.read_bytes()


def test_a_report_without_engines_and_gpus_is_read_as_one_of_onnx_runtime() -> None:
    """Older reports lack these two entries and are otherwise equal to those of today, byte for byte."""
    text = (DOCS / "benchmarks" / "target.json").read_text()
    assert '"engines"' not in text
    written = RunReport.from_json(text).to_json()
    assert "".join(re.split(r' +"(?:engines": false|gpus": \[\]),\n', written)) == text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_shows_it_without_complaint(sweep: RunReport, tmp_path: Path) -> None:
    """In one browser, as wide as a telephone and as wide as a screen; the page says itself how wide it needs to be."""
    assert CHROMIUM is not None
    tell = "<script>parent.postMessage([innerWidth, document.documentElement.scrollWidth].join(), '*')</script>"
    (tmp_path / "report.html").write_text(page_from_report(sweep).replace("</body>", f"{tell}</body>"))
    frames = "".join(f'<iframe src="report.html" width="{width}" height="900"></iframe>' for width in (400, 1280))
    listen = "<script>document.title = ''; onmessage = (event) => { document.title += event.data + ';' }</script>"
    outer = tmp_path / "outer.html"
    outer.write_text(f'<!DOCTYPE html><head><link rel="icon" href="data:,"><title></title></head>{listen}{frames}')
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
            f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--dump-dom", f"file://{outer}",
        ],
        capture_output=True, text=True, check=True, timeout=400,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    title = done.stdout.partition("<title>")[2].partition("</title>")[0]
    widths = sorted(tuple(map(int, pair.split(","))) for pair in title.strip(";").split(";"))
    assert [had for had, _ in widths] == [400, 1280]
    assert all(needed <= had for had, needed in widths)


def test_the_committed_report_is_what_its_figures_make() -> None:
    """As Markdown and as a page, and the README has both of its ratios."""
    committed = read_report(DOCS / "benchmarks" / "target.json")
    assert (DOCS / "benchmarks" / "target.md").read_text() == markdown_from_report(committed)
    arms = committed.models["append"].last.arms
    shown = (DOCS / "benchmarks" / "target.html").read_text()
    assert all(f"<td>{cell}</td>" in shown for row in list(table_cells(arms))[1:] for cell in row[1:])
    readme = (DOCS.parent / "README.md").read_text()
    cached, single_pass = (arms[name].ratio or 0 for name in ("cached", "single_pass"))
    assert f"**{cached:.0f} times**" in readme
    assert f"**{cached / single_pass:.1f} times**" in readme
