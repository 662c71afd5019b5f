from __future__ import annotations

import threading

import numpy as np
import pytest

from cleave.clients import Ranking
from cleave.perf.claims.open_loop import DueRequest, Rank, send


def ranked(status: str) -> Ranking:
    return Ranking({"scores": np.zeros(1, np.float32)}, summary_status=status)


def answering(status: str) -> Rank:
    return lambda: ranked(status)


def test_answers_are_by_group_in_the_order_in_which_they_were_due() -> None:
    requests = [DueRequest(0.03, "a", answering("third")), DueRequest(0, "b", answering("b"))]
    requests += [DueRequest(0, "a", answering("first")), DueRequest(0.01, "a", answering("second"))]
    answers = send(requests)
    assert [answer.summary_status for answer in answers["a"]] == ["first", "second", "third"]
    assert [answer.summary_status for answer in answers["b"]] == ["b"]
    assert all(answer.latency_ms >= 0 for group in answers.values() for answer in group)


def test_a_request_does_not_wait_for_the_answer_of_an_earlier_one() -> None:
    later = threading.Event()

    def waits() -> Ranking:
        assert later.wait(10), "the later request is sent while this one is under way"
        return ranked("waited")

    def comes() -> Ranking:
        later.set()
        return ranked("came")

    (waited, came) = send([DueRequest(0, "a", waits), DueRequest(0.02, "a", comes)])["a"]
    assert (waited.summary_status, came.summary_status) == ("waited", "came")
    assert waited.latency_ms >= 20


def test_an_error_of_a_request_is_raised() -> None:
    def fails() -> Ranking:
        raise ValueError("no answer")

    with pytest.raises(ValueError, match="no answer"):
        send([DueRequest(0, "a", fails)])
