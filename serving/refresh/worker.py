"""Keeps summaries fresh off the request path, as VISTA does: events in, summaries of whom they concern out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cleave.builders.names import OFF, STORE_ERROR
from cleave.clients.client import RankerClient
from cleave.clients.errors import InvalidRequestError, RankerError
from cleave.clients.validation import Inputs, UserId
from cleave.serving.errors import ServingError
from cleave.serving.refresh.events import (
    Event,
    EventError,
    EventStream,
    Fields,
    arrays_from_rows,
    event_from_fields,
    history_tensors,
)
from cleave.serving.refresh.histories import Histories

READ_EVENTS = 1000
TAKE_USERS = 64
WAIT_S = 0.5
"""How long a worker waits for events before it looks for users that are due."""

RETRY_S = 1.0
"""After the server could not encode a user."""

DEADLINE_S = 30.0


@dataclass
class RefreshCounts:
    """What a worker has done."""

    events: int = 0
    left_out: int = 0
    """Events that cannot be used."""
    encoded: int = 0
    failed: int = 0
    """Users that the server refused or could not encode; the latter are tried again."""

    def __str__(self) -> str:
        return f"{self.events} events, {self.left_out} left out, {self.encoded} users encoded, {self.failed} times not"


class Refresher:
    """One worker.

    Args:
        client: of the ensemble that keeps summaries.
        stream: where events come from.
        histories: where they are kept.
        lease_s: after so long, what another worker was given is taken over.
        log: gets a line for everything that is wrong.
        clock: Unix time in seconds.

    Raises:
        ServingError: no history can be made of events for this ranker.
        RankerError: the server cannot be asked for the ranker's signature.
    """

    def __init__(
        self,
        client: RankerClient,
        stream: EventStream,
        histories: Histories,
        *,
        lease_s: float,
        log: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._tensors = history_tensors(client.signature(deadline=DEADLINE_S))
        self._stream = stream
        self._histories = histories
        self._lease_s = lease_s
        self._log = log
        self._clock = clock
        self._looked_for_lost = -lease_s
        self.counts = RefreshCounts()

    def step(self, wait_s: float = WAIT_S) -> bool:
        """Add the events that are there and encode the users that are due; whether there was anything to do.

        Raises:
            ServingError: the server keeps no summaries.
            ValkeyError: the store cannot be reached; nothing is lost.
        """
        entries = self._lost() or self._stream.read(READ_EVENTS, min(wait_s, self._until_due(wait_s)))
        self._add(entries)
        users, lease = self._histories.take_due(TAKE_USERS)
        self._encode(users, lease)
        return bool(entries or users)

    def _until_due(self, wait_s: float) -> float:
        due_s = self._histories.next_due_s()
        return wait_s if due_s is None else due_s

    def _lost(self) -> list[tuple[bytes, Fields]]:
        now = self._clock()
        if now < self._looked_for_lost + self._lease_s / 2:
            return []
        entries = self._stream.take_over(READ_EVENTS, self._lease_s)
        if len(entries) < READ_EVENTS:
            self._looked_for_lost = now
        return entries

    def _add(self, entries: Sequence[tuple[bytes, Fields]]) -> None:
        events: list[Event] = []
        for entry, fields in entries:
            try:
                events.append(event_from_fields(entry, fields, self._tensors))
            except EventError as error:
                self._log(str(error))
                self.counts.left_out += 1
        self._histories.add(events)
        # Only now: whoever takes over adds the same events again, which changes nothing.
        self._stream.done(entry for entry, _ in entries)
        self.counts.events += len(events)

    def _encode(self, users: Sequence[bytes], lease: int) -> None:
        histories = {user: self._histories.rows(user) for user in users}
        arrays: dict[UserId, Inputs] = {
            user: arrays_from_rows(rows, self._tensors) for user, rows in histories.items() if rows
        }
        try:
            statuses = self._client.warm_all(arrays, deadline=DEADLINE_S) if arrays else {}
        except InvalidRequestError as error:
            if len(arrays) > 1:
                for user in users:
                    self._encode([user], lease)
                return
            # It would be refused again; it is tried when there are new events.
            self._log(f"user {users[0]!r}: not encoded: {error}")
            self.counts.failed += 1
            statuses = {}
        except RankerError as error:
            self._log(f"{len(users)} users: not encoded, tried again in {RETRY_S:g} s: {error}")
            self._release(users)
            return
        self._settle(users, statuses, lease)

    def _settle(self, users: Sequence[bytes], statuses: Mapping[UserId, str], lease: int) -> None:
        if OFF in statuses.values():
            self._release(users)
            raise ServingError("refresh: the server keeps no summaries; start it without --store none")
        for user in users:
            if statuses.get(user) == STORE_ERROR:
                self._release([user])
            else:
                self._histories.finish(user, lease)
                self.counts.encoded += user in statuses

    def _release(self, users: Sequence[bytes]) -> None:
        for user in users:
            self._histories.release(user, RETRY_S)
        self.counts.failed += len(users)
