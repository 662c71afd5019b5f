"""Users who wait for the history encoder: joined in batches, bounded, and dropped when nobody waits for them any more.

The encoder's own queue in Triton cannot do this: what is sent there is encoded, whoever gave up meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from cleave.builders.names import QUEUE_FULL, Status
from cleave.serving.errors import OverloadError, RequestDroppedError, RequestFailedError, ServingError
from cleave.serving.limits import Limits
from cleave.serving.summary.request import Lookup, Summary
from cleave.serving.summary.store import Permit

DROPPED = (
    "expected the caller to wait for the answer, got a cancelled request or one whose time was over before its turn "
    "came; give it more time"
)

SummaryOrError = Summary | ServingError


@dataclass(eq=False)
class Flight:
    """A lookup under way, which equal ones join."""

    lookup: Lookup
    landed: asyncio.Future[SummaryOrError]
    permit: Permit | None = None
    status: Status | None = None
    """Why the encoder is needed, once that is known."""
    joined: list[Lookup] = field(default_factory=list)
    """The equal ones."""

    @property
    def identity(self) -> tuple[bytes, bytes | None]:
        return self.lookup.key, self.lookup.digest

    @property
    def is_awaited(self) -> bool:
        return any(lookup.caller.waits for lookup in (self.lookup, *self.joined))

    @property
    def is_late(self) -> bool:
        return all(lookup.caller.is_late for lookup in (self.lookup, *self.joined))

    @property
    def shapes(self) -> object:
        """Users of equal shapes can be a batch."""
        assert self.lookup.inputs is not None
        return tuple((name, array.shape) for name, array in sorted(self.lookup.inputs.items()))


class EncoderQueue:
    """First come, first encoded, with those of equal shapes behind; a flight that nobody awaits is landed unread.

    Args:
        encode: encodes a batch and lands it; called on the event loop.
        land: ends a flight, if it has not landed.
        max_batch_size: users of one batch.
        limits: `max_encodings` batches are with the encoder at a time, and `max_queue` flights wait; more are refused.
    """

    def __init__(
        self,
        encode: Callable[[Sequence[Flight]], Awaitable[None]],
        land: Callable[[Flight, SummaryOrError], None],
        *,
        max_batch_size: int,
        limits: Limits,
    ) -> None:
        self._encode = encode
        self._land = land
        self._max_batch_size = max_batch_size
        self._limits = limits
        self._waiting: deque[Flight] = deque()
        self._running: set[asyncio.Task[None]] = set()

    def add(self, flights: Sequence[Flight]) -> None:
        """Let them wait, and start what can be started."""
        for flight in flights:
            if len(self._waiting) >= self._limits.max_queue:
                self._drop_late()
            if len(self._waiting) < self._limits.max_queue:
                self._waiting.append(flight)
            else:
                self._land(
                    flight,
                    OverloadError(
                        f"{QUEUE_FULL} of the history encoder: expected at most {self._limits.max_queue} users to "
                        "wait for it, got one more; "
                        "try again later, or serve with a larger --max-queue or on more machines"
                    ),
                )
        self._start()

    def _start(self) -> None:
        while self._waiting and len(self._running) < self._limits.max_encodings:
            batch = self._next_batch()
            if batch:
                task = asyncio.get_running_loop().create_task(self._run(batch))
                self._running.add(task)
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()

    def _next_batch(self) -> list[Flight]:
        """The first that is awaited and all that can be encoded with it; those that nobody awaits are dropped."""
        batch: list[Flight] = []
        others: deque[Flight] = deque()
        while self._waiting and len(batch) < self._max_batch_size:
            flight = self._waiting.popleft()
            if batch and flight.shapes != batch[0].shapes:
                others.append(flight)
            elif flight.is_awaited:
                batch.append(flight)
            else:
                self._drop(flight)
        others.extend(self._waiting)
        self._waiting = others
        return batch

    def _drop_late(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for flight in waiting:
            if flight.is_late:
                self._drop(flight)
            else:
                self._waiting.append(flight)

    def _drop(self, flight: Flight) -> None:
        self._land(flight, RequestDroppedError(DROPPED))

    async def _run(self, batch: Sequence[Flight]) -> None:
        """Land every flight, whatever happens."""
        try:
            await self._encode(batch)
        except Exception as error:
            failure = unexpected(error)
            for flight in batch:
                self._land(flight, failure)


def unexpected(error: Exception) -> RequestFailedError:
    """Log a failure that no rule foresees, and say to callers where to read of it."""
    asyncio.get_running_loop().call_exception_handler({"message": "summary cache", "exception": error})
    return RequestFailedError(f"summary cache: {type(error).__name__}: {error}; see the server's log")
