"""A user who works in a clone of this repository: his files stand in nobody's way."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

HIS = ("my_model.py", "models/anything.py", "model_repository/mine/config.pbtxt", ".cleave/weights/append.safetensors")
"""A model file as the README has it, a folder for several, and what commands write unless they are told."""


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an archive of the sources is no clone")
def test_git_does_not_see_them() -> None:
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", *HIS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == list(HIS)


def test_linters_do_not_read_them(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "builders" / "cut").mkdir(parents=True)
    ours = tmp_path / "builders" / "cut" / "cut.py"
    for file in (ours, tmp_path / "my_model.py", tmp_path / "model.py", tmp_path / "more" / "layers.py"):
        file.parent.mkdir(exist_ok=True)
        file.touch()
    command = [sys.executable, "-m", "ruff", "check", "--show-files", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert {line for line in done.stdout.splitlines() if line.endswith(".py")} == {str(ours)}
