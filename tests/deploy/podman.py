"""Podman with a store of images and containers of its own, which nothing is left of."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NEEDED = ("podman", "debootstrap")
PATIENCE_S = 120
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
"""Podman would raise its own, which not every machine allows."""


class Podman:
    """Calls podman on a folder of its own.

    Args:
        folder: an empty one, whose path has no spaces; `close` removes it with all that is in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.command = ["podman", "--root", str(folder / "storage"), "--runroot", str(folder / "run")]
        # What works without systemd too.
        self.command += ["--cgroup-manager", "cgroupfs"]
        if shutil.which("runc"):
            self.command += ["--runtime", "runc"]  # crun refuses a machine with both versions of cgroups

    def run(self, *words: str, timeout: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.command, *words], capture_output=True, text=True, check=False, timeout=timeout)

    def __call__(self, *words: str, timeout: float = PATIENCE_S) -> str:
        """What podman prints; it must succeed."""
        done = self.run(*words, timeout=timeout)
        assert done.returncode == 0, f"podman {' '.join(words)}: {done.stderr}"
        return done.stdout.strip()

    def start(self, name: str, *words: str) -> None:
        """Start a container in the background."""
        self("run", "--detach", "--name", name, *LIMITS, *words)

    def close(self) -> None:
        self("rm", "--all", "--force", "--time", "2")
        self("volume", "rm", "--all")
        self("rmi", "--all", "--force")
        shutil.rmtree(self.folder)


def skip_without_podman() -> None:
    """Skip a test, saying why, where containers cannot be built and run."""
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"an image is built with {' and '.join(NEEDED)}, got no {' and no '.join(missing)}; install them")
    if os.geteuid() != 0:
        pytest.skip("the stand-in for the base image is made by root")
