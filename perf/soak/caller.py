"""One caller of a soak: draws requests about users whose histories grow, and judges every answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cleave.clients import Ranking
from cleave.perf.soak.people import LONGEST, POOL, USERS, Array, People
from cleave.perf.soak.tally import Failure, Tally

DEADLINE_S = 10.0
"""Of every call."""
GRACE_S = 5.0
"""A call that ends later than this after its deadline is late."""
ZIPF = 1.3
GROWS, BY_ID, FORGETS = 0.5, 0.25, 0.01
"""Shares of requests before which the history grows, that name the user by id alone, and that forget the user."""


@dataclass
class _User:
    """What the server may know of a user: lengths of the histories that it was sent."""

    place: int
    """In `People`."""
    num_events: int
    kept: int | None = None
    """The last one that was answered, which the server keeps unless its store failed."""
    unanswered: set[int] = field(default_factory=set)
    """Sent since then: an answer may have been lost after the history was kept."""
    older: set[int] = field(default_factory=set)
    """All others, which the store may still have where it could not keep a newer one."""

    def answered(self, num_events: int) -> None:
        """The server kept this history before it gave the answer."""
        self.older |= self.unanswered | ({self.kept} if self.kept else set())
        self.kept, self.unanswered = num_events, set()

    def forgotten(self) -> None:
        """The server keeps no history that it has answered."""
        self.kept, self.older = None, set()


@dataclass(frozen=True)
class Ask:
    """One request: `send` makes the call of a client, blocking or to be awaited; `judge` takes its result."""

    send: Callable[[Any], Any]
    judge: Callable[[Any, Tally], None]


class Caller:
    """Calls about users whom no other caller asks for, one after another.

    Args:
        name: begins the ids of its users.
        number, of: which part of all users it takes.
    """

    def __init__(self, people: People, name: str, number: int, of: int, seed: int) -> None:
        self._people = people
        self._name = name
        self._rng = np.random.default_rng((seed, number))
        self._users = [_User(place, int(self._rng.integers(1, LONGEST))) for place in range(number, USERS, of)]

    def next(self) -> Ask:
        """The next request."""
        user = self._users[(int(self._rng.zipf(ZIPF)) - 1) % len(self._users)]
        if self._rng.random() < FORGETS:
            user_id = self._id(user)
            return Ask(
                lambda client: client.forget(user_id, deadline=DEADLINE_S), lambda _none, _tally: user.forgotten()
            )
        if self._rng.random() < GROWS:
            user.num_events = user.num_events % LONGEST + 1
        candidates = self._rng.permutation(POOL)[: self._rng.integers(1, POOL + 1)]
        return self._rank(user, candidates, by_id=self._rng.random() < BY_ID)

    def _rank(self, user: _User, candidates: Array, *, by_id: bool) -> Ask:
        """A ranking with the history, or by id alone, where the server asks for the history if it keeps none."""
        num_events, user_id = user.num_events, self._id(user)
        call = self._people.call(user.place, num_events, candidates)
        sent = not by_id

        def history_of(_user_id: str) -> Any:
            nonlocal sent
            sent = True
            user.unanswered.add(num_events)
            return call.history

        def send(client: Any) -> Any:
            how = {"on_missing": history_of} if by_id else {"history": history_of(user_id)}
            return client.rank(call.candidates, user_id=user_id, request=call.request, deadline=DEADLINE_S, **how)

        def judge(ranking: Ranking, tally: Tally) -> None:
            tally.statuses[ranking.summary_status or ""] += 1
            if sent:
                self._check(user, ranking, candidates, [{num_events}], tally)
                user.answered(num_events)
            else:
                newest = user.unanswered | ({user.kept} if user.kept else set())
                self._check(user, ranking, candidates, [newest, user.older], tally)

        return Ask(send, judge)

    def _check(self, user: _User, ranking: Ranking, candidates: Array, admitted: list[set[int]], tally: Tally) -> None:
        """The scores must be those of one of the admitted histories; only the first are up to date."""
        for late, lengths in enumerate(admitted):
            if any(self._people.is_right(ranking.scores, user.place, n, candidates) for n in lengths):
                tally.behind += late
                return
        expected = sorted(set[int]().union(*admitted))
        tally.wrong.append(f"{self._id(user)}: expected the scores of {expected} events, got others")

    def _id(self, user: _User) -> str:
        return f"{self._name}-{user.place}"


def count(tally: Tally, ask: Ask, sent: float, result: Any) -> None:
    """Count a call that ended with a result or an error, and judge the result."""
    now = time.monotonic()
    tally.late += now - sent > DEADLINE_S + GRACE_S
    if isinstance(result, Exception):
        tally.failures.append(Failure.of(result, sent, now))
    else:
        tally.answered += 1
        ask.judge(result, tally)
