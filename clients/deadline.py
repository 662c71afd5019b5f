"""The time a caller gave to a call that may take several requests."""

from __future__ import annotations

import math
import time

from cleave.clients.errors import DeadlineError, InvalidRequestError


class Deadline:
    """Seconds left of the time a caller gave to a whole call."""

    def __init__(self, where: str, seconds: float | None) -> None:
        if seconds is not None and not 0 < seconds < math.inf:
            raise InvalidRequestError(f"{where}: deadline: expected seconds above 0, got {seconds!r}; correct it")
        self._where = where
        self._seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float | None:
        """Raises: DeadlineError when nothing is left."""
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise DeadlineError(f"{self._where}: no answer within {self._seconds} s; give it more time")
        return left
