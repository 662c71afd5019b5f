"""The judge of a soak is judged: what it must call wrong, behind or right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cleave.clients import Ranking
from cleave.clients.errors import UnavailableError
from cleave.perf.soak.caller import Ask, Caller, count
from cleave.perf.soak.people import CANDIDATE, HISTORY, LONGEST, POOL, REQUEST, USERS, People, read_people
from cleave.perf.soak.tally import Tally


@pytest.fixture(scope="module")
def people() -> People:
    """Every score is a sum that tells the user, the number of events and the candidate."""
    places = np.arange(USERS)
    truth = places[:, None, None] * 1e4 + np.arange(1, LONGEST + 1)[:, None] * 100 + np.arange(POOL)
    return People(
        {
            HISTORY: {"items": np.tile(np.arange(LONGEST), (USERS, 1))},
            REQUEST: {"hour": places},
            CANDIDATE: {"candidates": np.tile(np.arange(POOL), (USERS, 1))},
        },
        truth,
    )


class Server:
    """Keeps the last history of each user, and may lose what it should keep, or answer for another user."""

    def __init__(self, people: People) -> None:
        self.people = people
        self.kept: dict[str, int] = {}
        self.keeps = self.fails = False
        self.off_by = 0

    def forget(self, user_id: str, deadline: float) -> None:
        self.kept.pop(user_id, None)

    def rank(
        self,
        candidates: Any,
        *,
        user_id: str,
        request: Any,
        deadline: float,
        history: Any = None,
        on_missing: Any = None,
    ) -> Ranking:
        if history is None and user_id not in self.kept:
            history = on_missing(user_id)
        if history is not None and self.keeps:
            self.kept[user_id] = len(history["items"])
        if self.fails:
            raise UnavailableError("lost on the way")
        num_events = self.kept[user_id] if history is None else len(history["items"])
        scores = self.people.truth[request["hour"], num_events - 1 - self.off_by, candidates["candidates"]]
        return Ranking({"scores": scores}, "hit")


def ask_often(server: Server, caller: Caller, times: int) -> Tally:
    tally = Tally()
    for _ in range(times):
        ask: Ask = caller.next()
        try:
            result = ask.send(server)
        except UnavailableError as error:
            result = error
        count(tally, ask, 0.0, result)
    return tally


def test_a_server_that_keeps_what_it_answered_is_right_and_never_behind(people: People) -> None:
    server = Server(people)
    server.keeps = True
    tally = ask_often(server, Caller(people, "a", 0, 4, 1), 2000)
    assert tally.answered == 2000
    assert (tally.wrong, tally.behind, tally.failures) == ([], 0, [])


def test_answers_that_were_lost_on_the_way_may_have_been_kept(people: People) -> None:
    server, caller = Server(people), Caller(people, "a", 0, 4, 1)
    server.keeps = True
    for fails in (False, True, False):
        server.fails = fails
        tally = ask_often(server, caller, 300)
        assert (tally.wrong, tally.behind) == ([], 0)
        assert all(failure.retryable for failure in tally.failures)


def test_a_server_that_did_not_keep_a_newer_history_is_behind(people: People) -> None:
    server, caller = Server(people), Caller(people, "a", 0, 4, 1)
    server.keeps = True
    ask_often(server, caller, 300)
    server.keeps = False
    tally = ask_often(server, caller, 300)
    assert tally.wrong == []
    assert tally.behind > 0


def test_scores_of_a_history_that_was_not_sent_are_wrong(people: People) -> None:
    server = Server(people)
    server.off_by = 1
    tally = ask_often(server, Caller(people, "a", 0, 4, 1), 300)
    assert len(tally.wrong) > 200


def test_a_history_that_outlives_forget_is_wrong(people: People) -> None:
    class Unforgetting(Server):
        def forget(self, user_id: str, deadline: float) -> None:
            """Says that it did."""

    server = Unforgetting(people)
    server.keeps = True
    assert ask_often(server, Caller(people, "a", 0, 4, 1), 3000).wrong


def test_people_are_read_as_they_were_written(people: People, tmp_path: Any) -> None:
    people.write(tmp_path / "people.npz")
    read = read_people(tmp_path / "people.npz")
    assert {role: set(arrays) for role, arrays in read.inputs.items()} == {
        role: set(arrays) for role, arrays in people.inputs.items()
    }
    candidates = np.array([3, 1])
    assert read.is_right(people.truth[5, 6, candidates], 5, 7, candidates)
    assert not read.is_right(people.truth[5, 6, candidates], 5, 8, candidates)
    assert not read.is_right(people.truth[5, 6, candidates] * np.nan, 5, 7, candidates)
