"""Lets a server stop without losing a request: what comes after the gate was closed is refused, the rest is answered.

Triton cannot do this: told to stop, it unloads models one by one, answers NOT_FOUND meanwhile, and fails requests whose
next step is unloaded. So whoever stops it first closes the gate, by a file in a folder that the processes of the
backends look at, and waits until none of them holds its lock in that folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from cleave.serving.errors import StoppingError
from cleave.serving.variables import GATE_VARIABLE

CLOSED = "closed"
"""In the folder, once the gate is closed: how many requests were queued for each model that has a gate."""

PART_OF_ANOTHER = "part_of_another"
"""Parameter of a request: it is made for another one, which was let in."""

_LOCKS = "*.lock"


class Gate:
    """The side of a process of a backend, for one instance of a model.

    Args:
        model: a model that the closed gate does not name takes everything.
        folder: without one the gate is always open.
    """

    def __init__(self, model: str, folder: Path | None) -> None:
        self._model = model
        self._closed = None if folder is None else folder / CLOSED
        # Open for as long as the process lives.
        self._lock = None if folder is None else os.open(folder / f"{os.getpid()}-{model}.lock", os.O_CREAT | os.O_RDWR)
        self._num_under_way = 0
        self._still_queued: int | None = None
        self._counting = threading.Lock()

    @staticmethod
    def of_server(model: str, environment: Mapping[str, str] = os.environ) -> Gate:
        """The gate of the server that started this process."""
        folder = environment.get(GATE_VARIABLE)
        return Gate(model, Path(folder) if folder else None)

    @property
    def is_closed(self) -> bool:
        return self._closed is not None and self._closed.exists()

    def let_in(self) -> None:
        """To be asked for each request in the order of the queue; an open gate lets all in.

        Raises:
            StoppingError: it came after the gate was closed.
        """
        if not self.is_closed:
            return
        assert self._closed is not None
        if self._still_queued is None:
            queued: dict[str, int] = json.loads(self._closed.read_text())
            if self._model not in queued:
                return
            self._still_queued = queued[self._model]
        if self._still_queued == 0:
            raise StoppingError("the server stops; ask another, or again when it is back")
        self._still_queued -= 1

    def enter(self) -> None:
        """A request is under way, until `leave`."""
        with self._counting:
            self._num_under_way += 1
            if self._num_under_way == 1 and self._lock is not None:
                fcntl.flock(self._lock, fcntl.LOCK_EX)

    def leave(self) -> None:
        """The request was answered."""
        with self._counting:
            self._num_under_way -= 1
            if self._num_under_way == 0 and self._lock is not None:
                fcntl.flock(self._lock, fcntl.LOCK_UN)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        self.enter()
        try:
            yield
        finally:
            self.leave()


def close_gate(folder: Path, queued: Mapping[str, int]) -> None:
    """Refuse new requests of these models.

    Args:
        queued: the requests that wait for each now; the processes let in as many, which come first.
    """
    partial = folder / f"{CLOSED}.partial"
    partial.write_text(json.dumps(dict(queued)))
    partial.replace(folder / CLOSED)


def is_anything_under_way(folder: Path) -> bool:
    """Whether a process holds its lock, which the kernel takes from one that dies."""
    for path in folder.glob(_LOCKS):
        with path.open() as file, suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            continue
        return True
    return False
