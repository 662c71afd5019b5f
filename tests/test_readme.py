"""Every command of the README is run, as a newcomer would: in an empty folder, with what is installed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LINES_OF_A_SCREEN = 75
READY_S = 120


def commands(of: str) -> list[str]:
    """The lines of shell blocks that begin with this word, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(f"{of} ")]


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = shlex.split(command)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the newcomer's, with the perf_analyzer that other tests fetched."""
    folder = tmp_path_factory.mktemp("newcomer")
    (ROOT / ".cleave").mkdir(exist_ok=True)
    (folder / ".cleave").symlink_to(ROOT / ".cleave")
    return folder


@pytest.fixture(scope="module")
def built(folder: Path) -> Path:
    for command in commands("cleave"):
        if command.startswith(("cleave inspect", "cleave build")):
            done = run(command, folder)
            assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def served(built: Path) -> Iterator[Path]:
    (command,) = (command for command in commands("cleave") if command.startswith("cleave serve"))
    said = built / "said"
    with (
        said.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", *shlex.split(command)], cwd=built, stdout=output, stderr=subprocess.STDOUT
        ) as server,
    ):
        try:
            deadline = time.monotonic() + READY_S
            while "ready" not in said.read_text():
                assert server.poll() is None, said.read_text()
                assert time.monotonic() < deadline, said.read_text()
                time.sleep(0.1)
            yield built
        finally:
            server.terminate()
            server.wait(timeout=30)


def test_it_is_one_screen() -> None:
    assert len(README.splitlines()) <= LINES_OF_A_SCREEN


def test_every_command_is_known_here() -> None:
    tested = ("inspect", "build", "serve", "rank", "bench")
    assert {command.split()[1] for command in commands("cleave")} == set(tested)
    for command in commands("make"):
        assert run(f"{command} --dry-run", ROOT).returncode == 0


@pytest.mark.long
def test_inspect_build_serve_and_rank(served: Path) -> None:
    ranks = [command for command in commands("cleave") if command.startswith("cleave rank")]
    for command in [each for each in ranks if "--by-id" not in each or sys.version_info >= (3, 11)]:
        done = run(command, served)
        assert done.returncode == 0, done.stderr
        assert len(re.findall(r"^ +\d+ +0\.\d+ +\S", done.stdout, re.MULTILINE)) == 10


@pytest.mark.long
def test_bench(built: Path) -> None:
    (command,) = (command for command in commands("cleave") if command.startswith("cleave bench"))
    done = run(f"{command} --models append --rounds 1", built)
    assert done.returncode == 0, done.stderr
    assert all(arm in done.stdout for arm in ("per_candidate", "single_pass", "uncached", "cached"))


def test_every_file_it_names_is_there() -> None:
    names = re.findall(r"\]\((docs/\w+\.md)\)", README)
    assert names
    for name in names:
        assert (ROOT / name).is_file(), name
