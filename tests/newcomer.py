"""Runs commands as a newcomer does, with what is installed, in a folder of his."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from cleave.serving.server.ports import LOOPBACK, Ports, choose_ports


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What Python says when it is called in the folder with these words; it must succeed."""
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done


@contextlib.contextmanager
def served(folder: Path, *words: str) -> Iterator[str]:
    """The server that a command starts, on free ports; yields its gRPC address."""
    flags = [f"--{service}-port={port}" for service, port in choose_ports(LOOPBACK, Ports()).items()]
    command = [sys.executable, "-m", "cleave", *words, *flags]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline().startswith("ready")
            yield server.stdout.readline().split()[-1]
        finally:
            server.terminate()
