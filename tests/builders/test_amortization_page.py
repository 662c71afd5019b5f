"""The pictures of `docs/amortization.md`, and the command that draws them."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import builders.split
from builders.amortization_page import PICTURES
from cleave import main, parser
from tests.zoo_cuts import zoo_cut

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGE = (DOCS / "amortization.md").read_text()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session's cuts instead of exports, on coarse maps."""
    monkeypatch.setattr(builders.split, "cut_ranker", lambda ranker: (zoo_cut(ranker.name), {}))
    monkeypatch.setattr("builders.amortization_page.GRID", 4)


@pytest.mark.usefixtures("drawn")
def test_a_picture_for_each_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["amortization", "append", "vista", "--gpu", "L4", "--out", str(tmp_path / "new")]) == 0
    files = sorted((tmp_path / "new").iterdir())
    assert [file.name for file in files] == sorted(f"amortization_{name}.svg" for name in PICTURES)
    for file in files:
        texts = "".join(ElementTree.parse(file).getroot().itertext())
        assert "L4, tf32: predicted from its data sheet, nothing was run on a GPU" in texts
        assert "vista" in texts
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


def test_a_wrong_gpu_is_refused_before_a_model_is_exported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["amortization", "--gpu", "T4"]) == 2
    assert "--gpu: expected one of A10, L4, L40S, A100, H100, got 'T4'" in capsys.readouterr().err
