"""The pictures of `docs/amortization.md`, and the command that draws them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import cleave.builders.cut.cut
from cleave.builders import Axis, Tensor
from cleave.builders.reports.amortization_plots import FIGURES_PAGE, PICTURES
from cleave.cli import main, parser
from tests.builders.graphs import ranker
from tests.zoo_cuts import zoo_cut

DOCS = Path(__file__).parent.parent.parent.parent / "docs"
PAGE = (DOCS / "amortization.md").read_text()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session's cuts instead of exports, on coarse maps."""
    monkeypatch.setattr(cleave.builders.cut.cut, "cut_ranker", lambda ranker: zoo_cut(ranker.name))
    monkeypatch.setattr("cleave.builders.reports.amortization_plots.GRID", 4)


@pytest.mark.usefixtures("drawn")
def test_a_picture_for_each_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also of concat, whose encoder never takes longer than its scorer."""
    assert main(["amortization", "append", "concat", "--gpu", "L4", "--out", str(tmp_path / "new")]) == 0
    page = (tmp_path / "new" / FIGURES_PAGE).read_text()
    assert all(f"```text\n{name}, one request of one user: " in page for name in ("append", "concat"))
    files = sorted((tmp_path / "new").glob("*.svg"))
    assert [file.name for file in files] == sorted(f"amortization_{name}.svg" for name in PICTURES)
    for file in files:
        texts = "".join(ElementTree.parse(file).getroot().itertext())
        assert "L4, tf32: predicted from its data sheet, nothing was run on a GPU" in texts
        assert "concat" in texts
    out = capsys.readouterr().out
    assert out.count("predicted on L4; nothing was run on a GPU") == 2
    assert f"wrote {files[0]}" in out


def test_the_page_shows_every_picture_and_says_how_it_was_made() -> None:
    shown = re.findall(r"\]\((amortization_\w+\.svg)\)", PAGE)
    assert sorted(shown) == sorted(f"amortization_{name}.svg" for name in PICTURES)
    assert all((DOCS / name).stat().st_size < 200_000 for name in shown)
    (command,) = re.findall(r"^    cleave (amortization .*)$", PAGE, re.MULTILINE)
    assert parser().parse_args(command.split()).out == Path("docs")
    assert "nothing was run on a gpu" in PAGE.lower()


@pytest.mark.parametrize(
    ("user", "message"),
    [
        (Tensor("profile", "float32", (4,)), "the user tensors have no axis, expected a history; leave the model out"),
        (Tensor("events", "float32", (Axis("few", 9, 9, 9),)), "axis 'few': expected several sizes to draw, got 9"),
    ],
)
def test_a_model_without_a_history_to_draw(
    user: Tensor, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "cleave.builders.load.load_ranker", lambda name, sizes: dataclasses.replace(ranker(), user=(user,))
    )
    assert main(["amortization", "mine.py:ranker"]) == 2
    assert message in capsys.readouterr().err


def test_a_wrong_gpu_is_refused_before_a_model_is_exported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["amortization", "--gpu", "T4"]) == 2
    assert "--gpu: expected one of A10, L4, L40S, A100, H100, got 'T4'" in capsys.readouterr().err
