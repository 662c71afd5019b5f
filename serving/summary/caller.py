"""Whether somebody still waits for the answer of a request: work that nobody waits for is not done."""

from __future__ import annotations

import time
from collections.abc import Callable

ASK_AFTER_S = 0.01
"""A request that waited for less is taken for wanted: Triton is asked whether it was cancelled, which takes a message
to another process and back, about 0.1 ms."""


class Caller:
    """Who sent a request, from its arrival here.

    Args:
        timeout_s: how long an answer is waited for; None: for ever.
        is_cancelled: asks whether the request was cancelled, which takes a while.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        timeout_s: float | None = None,
        is_cancelled: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._started = clock()
        self._timeout_s = timeout_s
        self._is_cancelled = is_cancelled

    @property
    def is_late(self) -> bool:
        """Whether the time that was given is over."""
        return self._timeout_s is not None and self._clock() - self._started >= self._timeout_s

    @property
    def waits(self) -> bool:
        """Whether an answer would be read."""
        if self.is_late:
            return False
        return self._clock() - self._started < ASK_AFTER_S or not self._is_cancelled()


PATIENT = Caller()
"""Somebody who always waits."""
