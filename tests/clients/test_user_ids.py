"""Users named by id, against a fake server that keeps the last history of each."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from cleave.builders.contract.build_version import version_of_build
from cleave.clients import InvalidRequestError, NotFoundError, RankerClient, SignatureError
from tests.clients import toy as toys
from tests.clients.conftest import AsyncClientOnLoop, Connect
from tests.clients.fake_triton import DTYPES, MAX_BATCH, MAX_HISTORY, SIGNATURE, Arrays, FakeTriton, toy

CACHED, SUMMARY_CACHE = "toy", "toy_summary_cache"
CACHED_SIGNATURE: dict[str, Any] = {
    "axes": SIGNATURE["axes"],
    "inputs": {"user_id": {"role": "user_id", "axes": [], "pad": 0}, **SIGNATURE["inputs"]},
    "outputs": {**SIGNATURE["outputs"], "summary_status": {"axes": []}},
    "summary_cache": SUMMARY_CACHE,
}
HISTORY = ("visits", "visit_weights")


class CachedTriton:
    """What the fake computes: it knows the users it has seen."""

    def __init__(self, triton: FakeTriton) -> None:
        self.triton = triton
        self.kept: dict[bytes, Arrays] = {}

    def __call__(self, inputs: Arrays, context: grpc.ServicerContext) -> Arrays:
        if len(inputs.get("user_id", [])) > 1:
            return {
                "summary_status": np.array([[b"miss of " + user_id.item()] for user_id in inputs["user_id"]], object)
            }
        user_id = inputs["user_id"].item() if "user_id" in inputs else b""
        model, flags = self.triton.asked[-1]
        history = {name: inputs[name] for name in HISTORY if name in inputs}
        if flags:
            self.kept.pop(user_id, None)
            return {}
        if not history and user_id not in self.kept:
            context.abort(grpc.StatusCode.NOT_FOUND, f"user {user_id!r}: no summary to use; send the user inputs")
        known = self.kept.get(user_id, history)
        hit = user_id in self.kept and all(
            np.array_equal(known[name], history.get(name, known[name])) for name in HISTORY
        )
        self.kept[user_id] = history or known
        status = {"summary_status": np.array([[b"hit" if hit else b"miss"]], object)}
        return status if model == SUMMARY_CACHE else status | toy(self.kept[user_id] | inputs)


@pytest.fixture
def cached(triton: FakeTriton) -> FakeTriton:
    triton.model = CACHED
    triton.tensors = triton.signature = CACHED_SIGNATURE
    triton.dtypes = {**DTYPES, "user_id": "O", "summary_status": "O"}
    triton.optional = {"user_id", *HISTORY}
    triton.infer = CachedTriton(triton)
    return triton


def without_history(given: dict[str, Any]) -> dict[str, Any]:
    return {role: arrays for role, arrays in given.items() if role != "history"}


def test_a_known_user_needs_no_history(cached: FakeTriton, connect: Connect) -> None:
    client = connect(cached.url, CACHED)
    given = toys.arguments(num_candidates=3, num_visits=5)
    first = client.rank(user_id="ann", **given)
    again = client.rank(user_id="ann", **given)
    by_id = client.rank(user_id="ann", **without_history(given))
    assert [ranking.summary_status for ranking in (first, again, by_id)] == ["miss", "hit", "hit"]
    for ranking in (again, by_id):
        np.testing.assert_array_equal(ranking.scores, first.scores)
    assert not set(HISTORY) & cached.requests[-1].keys()


def test_without_an_id_the_history_is_sent_alone(cached: FakeTriton, connect: Connect) -> None:
    connect(cached.url, CACHED).rank(**toys.arguments(num_candidates=3, num_visits=5))
    assert "user_id" not in cached.requests[0]


@pytest.mark.parametrize(
    ("user_id", "sent"), [("änn", "änn".encode()), (b"\xff\x00", b"\xff\x00"), (42, b"42"), (np.int64(7), b"7")]
)
def test_an_id_is_text_or_bytes_or_a_number(cached: FakeTriton, connect: Connect, user_id: Any, sent: bytes) -> None:
    connect(cached.url, CACHED).rank(user_id=user_id, **toys.arguments(num_candidates=3, num_visits=5))
    assert cached.requests[0]["user_id"].tolist() == [[sent]]


def test_of_several_requests_the_one_that_encoded_gives_the_status(cached: FakeTriton, connect: Connect) -> None:
    client = connect(cached.url, CACHED)
    given = toys.arguments(num_candidates=50, num_visits=5)
    assert client.rank(user_id="ann", **given).summary_status == "miss"
    assert client.rank(user_id="ann", **given).summary_status == "hit"
    assert all(request["user_id"].tolist() == [[b"ann"]] for request in cached.requests)


def test_a_user_nobody_knows_is_not_found_and_nothing_is_learned_again(cached: FakeTriton, connect: Connect) -> None:
    client = connect(cached.url, CACHED)
    for _ in range(2):
        with pytest.raises(NotFoundError, match=r"or send the history of the user .*no summary to use"):
            client.rank(user_id="bob", **without_history(toys.arguments(3, 5)))
    assert cached.num_descriptions == 1


def test_the_history_of_a_missing_user_is_fetched_once(cached: FakeTriton, connect: Connect) -> None:
    client = connect(cached.url, CACHED)
    given = toys.arguments(num_candidates=3, num_visits=5)
    expected = client.rank(user_id="ann", **given)
    fetched: list[Any] = []

    def fetch(user_id: Any) -> Any:
        fetched.append(user_id)
        return given["history"]

    for status in ("miss", "hit"):
        ranking = client.rank(user_id="bob", on_missing=fetch, **without_history(given))
        assert ranking.summary_status == status
        np.testing.assert_array_equal(ranking.scores, expected.scores)
    assert fetched == ["bob"]


def test_a_coroutine_may_fetch_it(cached: FakeTriton) -> None:
    given = toys.arguments(num_candidates=3, num_visits=5)

    async def fetch(_: Any) -> Any:
        return given["history"]

    with AsyncClientOnLoop(cached.url, CACHED) as client:
        assert client.rank(user_id="bob", on_missing=fetch, **without_history(given)).summary_status == "miss"


def test_the_blocking_client_awaits_nothing(cached: FakeTriton) -> None:
    async def fetch(user_id: object) -> Arrays:
        raise AssertionError("it cannot be run")

    given = toys.arguments(3, 4)
    with (
        RankerClient(cached.url, CACHED) as client,
        pytest.raises(InvalidRequestError, match=r"on_missing: .* got one that returns an awaitable \(coroutine\)"),
    ):
        client.rank(user_id="nobody", on_missing=fetch, **without_history(given))


def test_warm_and_forget_ask_the_summary_cache(cached: FakeTriton, connect: Connect) -> None:
    client = connect(cached.url, CACHED)
    given = toys.arguments(num_candidates=3, num_visits=5)
    assert [client.warm("ann", given["history"]) for _ in range(2)] == ["miss", "hit"]
    assert client.rank(user_id="ann", **without_history(given)).summary_status == "hit"
    client.forget("ann")
    with pytest.raises(NotFoundError):
        client.rank(user_id="ann", **without_history(given))
    assert [asked for asked in cached.asked if asked[0] == SUMMARY_CACHE] == [
        (SUMMARY_CACHE, set()),
        (SUMMARY_CACHE, set()),
        (SUMMARY_CACHE, {"forget"}),
    ]
    assert cached.requests[0]["visits"].shape == (1, 16), "padded as a request to rank would be"


def test_every_method_that_pads_asks_for_the_build_that_is_served_now(cached: FakeTriton, connect: Connect) -> None:
    client, given = connect(cached.url, CACHED), toys.arguments(num_candidates=3, num_visits=5)
    calls: list[Callable[[], object]] = [
        lambda: client.rank(user_id="ann", **given),
        lambda: client.rank(user_id="ann", **without_history(given)),
        lambda: client.warm("ann", given["history"]),
        lambda: client.warm_all({"ann": given["history"], "bob": given["history"]}),
        lambda: client.forget("ann"),
    ]
    for number, call in enumerate(calls, start=2):
        cached.version = version_of_build(str(number) * 64, {})
        answered = len(cached.requests)
        call()
        assert cached.num_descriptions == number - 1
        assert len(cached.requests) == answered + 1


def test_many_users_are_warmed_together(cached: FakeTriton, connect: Connect) -> None:
    lengths = {f"user {place}": 5 if place % 2 else 20 for place in range(2 * MAX_BATCH + 2)}
    histories: Any = {
        user_id: toys.arguments(num_candidates=1, num_visits=length)["history"] for user_id, length in lengths.items()
    }
    statuses = connect(cached.url, CACHED).warm_all({**histories, 7: histories["user 1"]})
    last_alone = {f"user {2 * MAX_BATCH}": "miss"}
    assert statuses == {user_id: f"miss of {user_id}" for user_id in (*lengths, 7)} | last_alone
    sizes = sorted((len(request["user_id"]), request["visits"].shape[1]) for request in cached.requests)
    assert sizes == [(1, 32), (2, 16), (MAX_BATCH, 16), (MAX_BATCH, 32)]
    assert connect(cached.url, CACHED).warm_all({}) == {}


def test_infer_may_leave_out_what_is_optional(cached: FakeTriton, connect: Connect) -> None:
    client = connect(cached.url, CACHED)
    batch = toys.batch_of_one(toys.arguments(num_candidates=4, num_visits=16))
    answer = client.infer({"user_id": np.array(["ann"]), **batch, "hour": batch["hour"][0]})
    assert answer["summary_status"].tolist() == [b"miss"]
    by_id = client.infer(
        {"user_id": [b"ann"], **{n: a for n, a in batch.items() if n not in HISTORY}, "hour": batch["hour"][0]}
    )
    np.testing.assert_array_equal(by_id["scores"], answer["scores"])


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "nothing to know the user by": (
        {},
        "toy: history: expected visits, visit_weights, got nothing; add visits, visit_weights",
    ),
    "half a history": (
        {"user_id": "ann", "history": {"visits": [1]}},
        "toy: history: expected visits, visit_weights, got visits; add visit_weights",
    ),
    "an empty id": ({"user_id": ""}, "toy: user_id: expected an id, got an empty one; send None for none"),
    "text that is none": ({"user_id": "\ud800ann"}, "toy: user_id: expected text, got one of 4 characters that has no"),
    "a huge number": ({"user_id": 10**5000}, "toy: user_id: expected an id, got a huge number; send bytes instead"),
    "no id at all": ({"user_id": 1.5}, "toy: user_id: expected a string, bytes or a whole number, got 1.5; correct it"),
    "a truth": ({"user_id": True}, "toy: user_id: expected a string, bytes or a whole number, got True; correct it"),
    "a history beyond the axis": (
        {"history": {"visits": [1] * (MAX_HISTORY + 1), "visit_weights": [1.0] * (MAX_HISTORY + 1)}},
        f"toy: axis history: expected at most {MAX_HISTORY}, got {MAX_HISTORY + 1}; cut it",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments(cached: FakeTriton, connect: Connect, arguments: dict[str, Any], message: str) -> None:
    client = connect(cached.url, CACHED)
    with pytest.raises(InvalidRequestError, match=f"^{re.escape(message)}"):
        client.rank(**without_history(toys.arguments(3, 5)), **arguments)
    assert not cached.requests


def test_a_history_to_warm_is_checked(cached: FakeTriton, connect: Connect) -> None:
    visits: Any = {"visits": [1] * (MAX_HISTORY + 1), "visit_weights": [1.0] * (MAX_HISTORY + 1)}
    with pytest.raises(InvalidRequestError, match="toy: axis history: expected at most"):
        connect(cached.url, CACHED).warm("ann", visits)


def test_a_model_that_keeps_nothing_takes_no_id(triton: FakeTriton, connect: Connect) -> None:
    client = connect(triton.url)
    history: Any = toys.arguments(3, 5)["history"]
    for call in (
        lambda: client.rank(user_id="ann", **toys.arguments(3, 5)),
        lambda: client.warm("ann", history),
        lambda: client.forget("ann"),
    ):
        with pytest.raises(
            InvalidRequestError, match="toy_uncached: user_id: expected none, as this model keeps no summaries"
        ):
            call()
    assert client.rank(**toys.arguments(3, 5)).summary_status is None


def test_strings_elsewhere_are_refused(cached: FakeTriton, connect: Connect) -> None:
    cached.dtypes = {**cached.dtypes, "hour": "O"}
    with pytest.raises(SignatureError, match="toy: tensor hour: expected numbers of dims"):
        connect(cached.url, CACHED).signature()
