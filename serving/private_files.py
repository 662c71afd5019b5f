"""Files, sockets and shared memory that no other user of the machine may open."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

PRIVATE_UMASK = 0o077
_one_at_a_time = threading.RLock()
"""The umask is that of the whole process: of two who change it, the first to leave would undo what the other needs."""


@contextlib.contextmanager
def private_files() -> Iterator[None]:
    """What is made meanwhile, by this process or one that it starts here, is its user's alone."""
    with _one_at_a_time:
        before = os.umask(PRIVATE_UMASK)
        try:
            yield
        finally:
            os.umask(before)
