from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cleave.perf.analyzer import run as analyzer
from cleave.perf.analyzer.run import Analyzer, AnalyzerRun, find_analyzer, run_analyzer
from cleave.perf.errors import PerfError

RUN = AnalyzerRun("append", "7", "127.0.0.1:1", Path("inputs.json"), 30)
RECORDED = Path(__file__).parents[1] / "recorded"


def script(folder: Path, text: str) -> Path:
    """A perf_analyzer that is a few lines of shell."""
    folder.mkdir(exist_ok=True)
    file = folder / "perf_analyzer"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Neither a perf_analyzer on PATH nor beside Python nor to be fetched; gives the folder that is on PATH."""

    def fail() -> tuple[Path, Path]:
        raise PerfError("perf_analyzer: cannot be fetched")

    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(analyzer, "fetched_analyzer", fail)
    return folder


def test_one_on_path_is_found(nowhere: Path) -> None:
    file = script(nowhere, "echo Perf Analyzer Version 2.60.0")
    assert find_analyzer() == Analyzer(file, "2.60.0")


def test_one_that_does_not_run_is_passed_over(nowhere: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script(nowhere, "echo libc.so.6: version GLIBC_2.38 not found >&2; exit 1")
    file = script(tmp_path / "kept", 'echo "Perf Analyzer Version 2.51.0 ($LD_LIBRARY_PATH)" >&2')
    monkeypatch.setattr(analyzer, "fetched_analyzer", lambda: (file, tmp_path / "lib"))
    found = find_analyzer()
    assert (found.binary, found.version) == (file, "2.51.0")
    assert found.environment()["LD_LIBRARY_PATH"].split(":")[0] == str(tmp_path / "lib")


def test_where_none_runs_every_reason_is_said(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(nowhere, "echo libc.so.6: version GLIBC_2.38 not found >&2; exit 1")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1.0")
    with pytest.raises(PerfError) as raised:
        find_analyzer()
    message = str(raised.value)
    for part in ("perf-analyzer 0.1.0: expected a wheel with a program", "GLIBC_2.38", "cannot be fetched"):
        assert part in message


def test_a_real_wheel_is_no_placeholder(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.60.0")
    with pytest.raises(PerfError) as raised:
        find_analyzer()
    assert "placeholder" not in str(raised.value)


def test_inputs_are_sent_in_order_where_several_are_under_way() -> None:
    one, four = RUN.flags(), AnalyzerRun("append", "7", "127.0.0.1:1", Path("inputs.json"), 30, concurrency=4).flags()
    assert "--async" not in one
    assert four[four.index("--max-threads") + 1] == "1"


def test_every_model_has_its_version() -> None:
    """Where it is left out, perf_analyzer fails if the server has not counted any of a few fast requests yet."""
    run = AnalyzerRun("append", "7", "127.0.0.1:1", Path("inputs.json"), 30, composing=("append_history_encoder",))
    flags = run.flags()
    assert flags[flags.index("-x") + 1] == "7"
    assert flags[flags.index("--bls-composing-models") + 1] == "append_history_encoder:7"


def test_arrivals_replace_the_concurrency() -> None:
    flags = AnalyzerRun("append", "7", "127.0.0.1:1", Path("inputs.json"), 30, intervals=Path("waits")).flags()
    assert flags[flags.index("--request-intervals") + 1] == "waits"
    assert "--concurrency-range" not in flags


def test_its_complaint_is_passed_on_without_its_page_of_usage(tmp_path: Path) -> None:
    file = script(tmp_path, "echo Error: no such model; echo Usage: perf_analyzer; echo -m: the model; exit 99")
    with pytest.raises(PerfError, match=r"append: expected exit code 0, got 99: Error: no such model$"):
        run_analyzer(Analyzer(file, "2.51.0"), RUN, tmp_path)


def test_it_runs_inside_the_folder_and_a_lost_request_is_noticed(tmp_path: Path) -> None:
    file = script(tmp_path / "bin", f"cp {RECORDED}/* .")
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(PerfError, match="expected 30 requests, got 2"):
        run_analyzer(Analyzer(file, "2.51.0"), RUN, folder)
    assert (folder / "measured.csv").is_file()
