"""The events of each user in the store, and which users are to be encoded when.

Whatever is done here may be done twice, by a worker that was killed and by the one that takes over: once is the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from cleave.serving.refresh.events import Event, EventRow
from cleave.serving.summary.keys import RefreshKeys

_TAKE = """
local users = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, user in ipairs(users) do
    redis.call('ZADD', KEYS[1], ARGV[3], user)
    redis.call('ZADD', KEYS[2], ARGV[1], user)
end
return users
"""
"""Give users that are due to one worker; they are due again when its lease ends."""

_FINISH = """
if redis.call('ZSCORE', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('ZREM', KEYS[1], ARGV[1]) end
"""
"""Not due any more, unless an event came since the user was taken."""


class Histories:
    """Histories of one ranker's users, and the users whose summaries are out of date.

    Args:
        connection: see `cleave.serving.store.url.blocking_connection_from_url`.
        keys: where they are.
        max_events: how many events of a user are kept, the most recent ones.
        every_s: the least time between two encodings of one user.
        lease_s: how long a worker may take to encode the users it took.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        connection: Any,
        keys: RefreshKeys,
        max_events: int,
        every_s: float,
        lease_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._max_events = max_events
        self._every_ms = round(every_s * 1000)
        self._lease_ms = self._every_ms + round(lease_s * 1000)
        self._clock = clock

    def add(self, events: Sequence[Event]) -> None:
        """Add events to their users' histories, each once however often it is added, and make the users due."""
        if not events:
            return
        users = list(dict.fromkeys(event.user_id for event in events))
        encoded = self._connection.zmscore(self._keys.encoded, users)
        with self._connection.pipeline(transaction=False) as pipeline:
            for event in events:
                pipeline.zadd(self._keys.history(event.user_id), {_member(event): event.time})
            for user_id, last_ms in zip(users, encoded, strict=True):
                pipeline.zremrangebyrank(self._keys.history(user_id), 0, -self._max_events - 1)
                due_ms = max(self._now_ms(), int(last_ms or 0) + self._every_ms)
                # Sooner than the end of a lease, so that `finish` sees it.
                pipeline.zadd(self._keys.due, {user_id: due_ms}, lt=True)
            pipeline.execute()

    def take_due(self, count: int) -> tuple[list[bytes], int]:
        """Users to be encoded now, which no other worker is given before the lease ends, and the name of the lease."""
        now = self._now_ms()
        lease = now + self._lease_ms
        self._connection.zremrangebyscore(self._keys.encoded, "-inf", now - self._lease_ms)
        users = self._connection.eval(_TAKE, 2, self._keys.due, self._keys.encoded, now, count, lease)
        return list(users), lease

    def rows(self, user_id: bytes) -> list[EventRow]:
        """A user's events, the oldest first."""
        members: list[bytes] = self._connection.zrange(self._keys.history(user_id), 0, -1)
        return [json.loads(member.partition(b" ")[2]) for member in members]

    def finish(self, user_id: bytes, lease: int) -> None:
        """The user was encoded."""
        self._connection.eval(_FINISH, 1, self._keys.due, user_id, lease)

    def release(self, user_id: bytes, after_s: float) -> None:
        """The user was not encoded and is due again."""
        self._connection.zadd(self._keys.due, {user_id: self._now_ms() + round(after_s * 1000)}, xx=True)

    def next_due_s(self) -> float | None:
        """Seconds until a user is due; None if there is none."""
        first = self._connection.zrange(self._keys.due, 0, 0, withscores=True)
        return max(0.0, (first[0][1] - self._now_ms()) / 1000) if first else None

    def _now_ms(self) -> int:
        return round(self._clock() * 1000)


def _member(event: Event) -> bytes:
    """The same for the same entry; events of one time are in the order of their entries."""
    milliseconds, _, number = event.entry.partition(b"-")
    return b"%015d-%010d %b" % (int(milliseconds), int(number), json.dumps(event.row, separators=(",", ":")).encode())
