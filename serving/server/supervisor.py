"""Keeps a server whole: what of it has ended is noticed, and Triton is started anew, though not without end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from cleave.builders.contract.errors import ContractError
from cleave.serving.errors import ServingError

MAX_RESTARTS = 5
WITHIN_S = 600.0
"""A server that is started anew more often than this within that time is given up."""


class Restartable(Protocol):
    """What is supervised; see `cleave.serving.server.triton.TritonServer`."""

    def fault(self) -> str | None: ...
    def restart(self) -> None: ...


class GivenUpError(ServingError):
    """The server has ended, and was started anew too often."""


class Supervisor:
    """Starts a server anew as soon as it, or a process of one of its models, has ended.

    All of Triton is started anew, as it cannot replace a process of its own. The store is another process and keeps
    what it holds.

    Args:
        server: it was started before.
        say: gets a line for each restart, and one when the server is ready again.
        clock: seconds that only grow.
    """

    def __init__(
        self, server: Restartable, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._server = server
        self._say = say
        self._clock = clock
        self._restarts: deque[float] = deque(maxlen=MAX_RESTARTS)

    def keep_whole(self) -> None:
        """Start the server anew if something of it has ended; returns when it is ready again.

        Raises:
            GivenUpError: it was started anew too often, or does not start; with the last reason.
        """
        fault = self._server.fault()
        if fault is None:
            return
        noticed = self._clock()
        while fault is not None:
            self._count(fault)
            self._say(f"{fault}; Triton is started anew")
            try:
                self._server.restart()
                fault = self._server.fault()
            except (ContractError, ServingError) as error:
                fault = str(error)
        self._say(f"ready again after {self._clock() - noticed:.1f} s")

    def _count(self, fault: str) -> None:
        now = self._clock()
        if len(self._restarts) == MAX_RESTARTS and now - self._restarts[0] < WITHIN_S:
            raise GivenUpError(
                f"given up after {MAX_RESTARTS} restarts within {WITHIN_S:.0f} s; see Triton's log, and give it more "
                f"memory if it was killed for want of it; last: {fault}"
            )
        self._restarts.append(now)
