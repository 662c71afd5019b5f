"""Says which source a run is made with."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

from cleave import DISTRIBUTION


def source_version() -> str:
    """The commit of the clone that runs, and whether it was changed; else the version of the distribution."""
    folder = Path(__file__).resolve().parent
    try:
        command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return version(DISTRIBUTION)
