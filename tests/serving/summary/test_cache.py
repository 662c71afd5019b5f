from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cleave.serving.errors import InputError, RequestFailedError
from cleave.serving.summary.cache import CacheAnswer, CacheRequest, SummaryCache
from cleave.serving.summary.keys import Keys
from cleave.serving.summary.metrics import ENCODED, LOOKUPS, Samples, Sums
from cleave.serving.summary.policy import SummaryNotFoundError
from cleave.serving.summary.settings import CacheSettings
from cleave.serving.summary.store import StoreError
from tests.serving.summary.summaries import (
    BAD_VISIT,
    BUILD,
    FORMAT,
    USER_INPUTS,
    Arrays,
    FakeEncoder,
    FakeStore,
    history,
    sums,
)

PATIENCE_S = 30


class Caller:
    """Submits requests and waits for their answers."""

    def __init__(self, encode: Any, publish: Any) -> None:
        self.answers: queue.Queue[CacheAnswer] = queue.Queue()
        settings = CacheSettings(
            "toy_summary_cache", USER_INPUTS, FORMAT, Keys("toy", BUILD), "toy_history_encoder", None, 10.0, 4
        )
        self.cache = SummaryCache(settings, encode, publish, list[str]().append)
        self.store = self.cache._policy._store = FakeStore()

    def ask(self, user_id: str = "", visits: list[int] | None = None, **parameters: object) -> CacheAnswer:
        inputs: Arrays = {"user_id": np.array([[user_id.encode()]], object)} if user_id else {}
        if visits is not None:
            inputs |= {name: array[np.newaxis] for name, array in history(visits).items()}
        self.cache.submit([CacheRequest(inputs, self.answers.put, parameters)])
        return self.answers.get(timeout=PATIENCE_S)


@pytest.fixture
def published() -> list[tuple[Sums, Samples]]:
    return []


@pytest.fixture
def caller(published: list[tuple[Sums, Samples]]) -> Iterator[Caller]:
    caller = Caller(FakeEncoder(), lambda *drained: published.append(drained))
    yield caller
    if not caller.cache._loop.is_closed():
        caller.cache.close()


def test_answers_and_refusals(caller: Caller) -> None:
    for status in (b"miss", b"hit"):
        answer = caller.ask("ann", [1, 2])
        assert isinstance(answer, dict)
        assert answer["sums"].tolist() == [sums([1, 2])]
        assert answer["summary_status"].tolist() == [[status]]
    assert isinstance(caller.ask("bob"), SummaryNotFoundError)
    assert isinstance(caller.ask(), InputError)
    assert isinstance(caller.ask("ann", [BAD_VISIT]), InputError)


def test_forgetting(caller: Caller) -> None:
    caller.ask("ann", [1])
    assert caller.ask("ann", forget=True) == {}
    assert isinstance(caller.ask("ann"), SummaryNotFoundError)
    missing = caller.ask(forget=True)
    assert isinstance(missing, InputError)
    assert str(missing) == "input 'user_id': expected the user to forget, got none; send the user's id"
    caller.store.up = False
    failed = caller.ask("ann", forget=True)
    assert isinstance(failed, StoreError)
    assert str(failed).startswith("0 of 1 users deleted: ")


@pytest.mark.parametrize("value", ["true", "false", "", 1, 0, 1.0, None])
def test_a_parameter_that_is_neither_true_nor_false_is_refused(caller: Caller, value: object) -> None:
    caller.ask("ann", [1])
    refused = caller.ask("ann", forget=value)
    assert isinstance(refused, InputError)
    assert str(refused).startswith(f"parameter 'forget': expected true or false, got {value!r}; ")
    assert isinstance(caller.ask("ann", forget=False), dict), "the user is still known"


def test_what_was_submitted_is_answered_and_counted_before_the_end(
    caller: Caller, published: list[tuple[Sums, Samples]]
) -> None:
    inputs = {name: array[np.newaxis] for name, array in history([1]).items()}
    caller.cache.submit([CacheRequest(inputs, caller.answers.put) for _ in range(3)])
    caller.cache.close()
    assert caller.answers.qsize() == 3
    assert sum(drained.get((ENCODED, ()), 0) for drained, _ in published) == 1
    assert sum(drained.get((LOOKUPS, ("inputs", "miss")), 0) for drained, _ in published) == 3


def test_an_answer_that_cannot_be_made_is_an_error(caller: Caller) -> None:
    reported = []
    caller.cache._loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))

    def refuse(answer: CacheAnswer) -> None:
        if not isinstance(answer, RequestFailedError):
            raise OSError("no room")
        caller.answers.put(answer)

    inputs = {name: array[np.newaxis] for name, array in history([1]).items()}
    caller.cache.submit([CacheRequest(inputs, refuse)])
    answer = caller.answers.get(timeout=PATIENCE_S)
    assert str(answer) == "OSError: no room; see the server's log"
    assert [str(error) for error in reported] == ["no room"]


def test_metrics_that_cannot_be_published_stop_nothing() -> None:
    def publish(*_: Any) -> None:
        raise OSError("no metrics")

    caller = Caller(FakeEncoder(), publish)
    reported = []
    caller.cache._loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    caller.ask("ann", [1])
    caller.cache.close()
    assert str(reported[-1]) == "no metrics"
