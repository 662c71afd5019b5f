"""The time a caller gave to a call that may take several requests."""

from __future__ import annotations

import time

import numpy as np

from cleave.clients.errors import DeadlineError, InvalidRequestError, shown

MAX_DEADLINE_S = 365 * 24 * 3600
"""gRPC counts nanoseconds, and takes a time beyond its numbers for one that is over."""


class Deadline:
    """Seconds left of the time a caller gave to a whole call."""

    def __init__(self, where: str, seconds: float | None) -> None:
        if seconds is not None and not _is_a_time(seconds):
            raise InvalidRequestError(
                f"{where}: deadline: expected a number of seconds above 0 and at most {MAX_DEADLINE_S:,} (a year), got "
                f"{shown(seconds)}; correct it, or leave it out for none"
            )
        self._where = where
        self._seconds = seconds
        self._end = None if seconds is None else time.monotonic() + float(seconds)

    def left(self) -> float | None:
        """Raises: DeadlineError when nothing is left."""
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise DeadlineError(f"{self._where}: no answer within {self._seconds} s; give it more time")
        return left


def _is_a_time(seconds: object) -> bool:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float | np.integer | np.floating):
        return False
    return bool(0 < seconds <= MAX_DEADLINE_S)
