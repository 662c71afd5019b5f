from __future__ import annotations

import asyncio
import inspect
import itertools
import re
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
import numpy as np
import pytest

from cleave.builders.contract.build_version import build_of_version, version_of_build
from cleave.clients import (
    AsyncRankerClient,
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    OtherBuildError,
    RankerClient,
    RankerError,
    Ranking,
    ServerError,
    SignatureError,
    UnavailableError,
)
from tests.clients.conftest import Connect
from tests.clients.fake_triton import (
    CANDIDATE_BUCKETS,
    ITEM_PAD,
    MAX_CANDIDATES,
    MAX_HISTORY,
    MODEL,
    SIGNATURE,
    Arrays,
    FakeTriton,
    toy,
)
from tests.clients.toy import arguments, batch_of_one

PATIENCE_S = 30
"""How long a test waits for what happens at once unless it is broken."""


@pytest.mark.parametrize("num_candidates", [1, 4, MAX_CANDIDATES, MAX_CANDIDATES + 1, 5 * MAX_CANDIDATES + 3])
@pytest.mark.parametrize("num_visits", [0, 16, 17])
def test_scores_of_exactly_the_candidates_given_in_order(
    triton: FakeTriton, connect: Connect, num_candidates: int, num_visits: int
) -> None:
    given = arguments(num_candidates, num_visits)
    ranking = connect(triton.url).rank(**given)
    expected = toy(batch_of_one(given))
    assert list(ranking.outputs) == ["scores", "logits"]
    np.testing.assert_allclose(ranking.scores, expected["scores"][0], rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(ranking.outputs["logits"], expected["logits"][0], rtol=1e-5, atol=1e-3)


def test_order_is_by_falling_score_and_stable() -> None:
    ranking = Ranking({"scores": np.array([0.5, 0.9, 0.5, 0.1], np.float32)})
    assert ranking.order().tolist() == [1, 0, 2, 3]


def test_infer_sends_the_batch_as_it_is(triton: FakeTriton, connect: Connect) -> None:
    batch = {
        "visits": np.arange(10).reshape(2, 5),
        "visit_weights": np.ones((2, 5), np.float32),
        "hour": np.array([3, 4]),
        "items": np.array([[1], [2]]),
        "features": np.zeros((2, 1, 3), np.float32),
    }
    outputs = connect(triton.url).infer(batch)
    assert outputs["scores"].tolist() == [[10 + 3 + 1], [35 + 4 + 2]]
    (sent,) = triton.requests
    assert {name: array.shape for name, array in sent.items()} == {
        "visits": (2, 5),
        "visit_weights": (2, 5),
        "hour": (2, 1),
        "items": (2, 1),
        "features": (2, 1, 3),
    }


def test_parts_of_a_long_list_are_in_flight_together(triton: FakeTriton, connect: Connect) -> None:
    together = threading.Barrier(3)

    def wait_for_the_others(inputs: Arrays, _: grpc.ServicerContext) -> Arrays:
        together.wait(timeout=PATIENCE_S)
        return toy(inputs)

    triton.infer = wait_for_the_others
    ranking = connect(triton.url).rank(**arguments(2 * MAX_CANDIDATES + 1, 3))
    assert len(ranking.scores) == 2 * MAX_CANDIDATES + 1


def test_the_micro_batch_is_the_most_of_one_request(triton: FakeTriton) -> None:
    given = arguments(2 * MAX_CANDIDATES, 5)
    with RankerClient(triton.url, MODEL, micro_batch=3) as client:
        scores = client.rank(**given).scores
    assert [request["items"].shape[1] for request in triton.requests] == [CANDIDATE_BUCKETS[0]] * len(triton.requests)
    assert len(triton.requests) == -(-2 * MAX_CANDIDATES // 3)
    np.testing.assert_allclose(scores, toy(batch_of_one(given))["scores"][0], rtol=1e-5, atol=1e-3)
    with pytest.raises(InvalidRequestError, match=f"{MODEL} at .*: micro_batch: expected at least 1, got 0; leave"):
        RankerClient(triton.url, MODEL, micro_batch=0)


def test_the_first_failure_cancels_the_rest(triton: FakeTriton, connect: Connect) -> None:
    cancelled = threading.Event()
    waiting = threading.Event()

    def fail_or_wait(inputs: Arrays, context: grpc.ServicerContext) -> NoReturn:
        if inputs["items"].shape[1] == MAX_CANDIDATES:
            context.add_callback(cancelled.set)
            waiting.set()
            cancelled.wait(timeout=PATIENCE_S)
        waiting.wait(timeout=PATIENCE_S)
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "items: 7 is not known")
        raise AssertionError("abort raises")

    triton.infer = fail_or_wait
    with pytest.raises(InvalidRequestError, match="items: 7 is not known"):
        connect(triton.url).rank(**arguments(MAX_CANDIDATES + 1, 3))
    assert cancelled.wait(timeout=PATIENCE_S)


def test_what_is_wrong_is_said_before_anything_is_sent(triton: FakeTriton, connect: Connect) -> None:
    given = arguments(2, 3)
    with pytest.raises(InvalidRequestError, match="toy_uncached: candidates: unknown tensor 'x'"):
        connect(triton.url).rank(given["candidates"] | {"x": 1}, history=given["history"], request=given["request"])
    assert triton.requests == []


STATUSES = [
    (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequestError, "the server refused the request; correct it"),
    (grpc.StatusCode.NOT_FOUND, NotFoundError, "the server does not have it; check the name of the model"),
    (grpc.StatusCode.UNAVAILABLE, UnavailableError, "the server cannot be reached or is not ready; check that it"),
    (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineError, "no answer within the deadline; give it more time"),
    (grpc.StatusCode.CANCELLED, UnavailableError, "cancelled as the client was closed or the server stops; try again"),
    (grpc.StatusCode.INTERNAL, ServerError, "the server failed; its log says more"),
    (grpc.StatusCode.UNKNOWN, ServerError, "the server failed; its log says more"),
]


@pytest.mark.parametrize(("code", "error", "meaning"), STATUSES, ids=[code.name for code, _, _ in STATUSES])
def test_statuses_become_errors_with_the_servers_words(
    triton: FakeTriton, connect: Connect, code: grpc.StatusCode, error: type[RankerError], meaning: str
) -> None:
    triton.infer = lambda _, context: context.abort(code, "in the server's words")
    with pytest.raises(error) as raised:
        connect(triton.url).rank(**arguments(2, 3))
    assert type(raised.value) is error
    assert str(raised.value).startswith(f"{MODEL} at {triton.url}: {meaning}")
    assert str(raised.value).endswith(f"({code.name}: in the server's words)")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (grpc.StatusCode.INTERNAL, "in ensemble 'a', model 'a_summary_cache': Stub process 'e_0_0' is not healthy."),
        (grpc.StatusCode.INTERNAL, "Stub process 'a_whole_0_0' is not healthy."),
        (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'a' version 1 is not at ready state"),
    ],
)
def test_what_the_server_mends_soon_may_be_asked_again(
    triton: FakeTriton, connect: Connect, code: grpc.StatusCode, words: str
) -> None:
    triton.infer = lambda _, context: context.abort(code, words)
    with pytest.raises(UnavailableError) as raised:
        connect(triton.url).rank(**arguments(2, 3))
    assert type(raised.value) is UnavailableError
    assert words in str(raised.value)


def test_a_user_whose_id_sounds_like_it_is_not_found_all_the_same(triton: FakeTriton, connect: Connect) -> None:
    words = "in ensemble 'a', model 'a_summary_cache': user \"Stub process 'a' is not healthy\": no summary to use"
    triton.infer = lambda _, context: context.abort(grpc.StatusCode.NOT_FOUND, words)
    with pytest.raises(NotFoundError):
        connect(triton.url).rank(**arguments(2, 3))


def test_errors_are_of_pythons_families_too() -> None:
    assert issubclass(InvalidRequestError, ValueError)
    assert issubclass(DeadlineError, TimeoutError)
    assert str(DeadlineError("words")) == "words"


def test_a_model_that_is_not_served(triton: FakeTriton, connect: Connect) -> None:
    with pytest.raises(NotFoundError, match=r"other at .*Request for unknown model: 'other' is not found"):
        connect(triton.url, "other").rank([1])


def test_a_model_that_cleave_did_not_build(triton: FakeTriton, connect: Connect) -> None:
    triton.signature = None
    with pytest.raises(SignatureError, match="toy_uncached: its config has no parameter 'cleave_signature'"):
        connect(triton.url).rank([1])


def test_a_config_without_batches(triton: FakeTriton, connect: Connect) -> None:
    triton.max_batch_size = 0
    with pytest.raises(SignatureError, match="max_batch_size: expected at least 1, got 0"):
        connect(triton.url).signature()


def test_no_server(connect: Connect) -> None:
    with pytest.raises(UnavailableError, match=r"toy_uncached at 127\.0\.0\.1:1: the server cannot be reached"):
        connect("127.0.0.1:1").rank([1])


@pytest.mark.parametrize(
    "outputs",
    [{}, {"scores": np.zeros((1, 3), np.float32)}, {"scores": np.zeros((1, 4), np.int32)}],
    ids=["none", "shape", "type"],
)
def test_a_server_that_breaks_its_word(triton: FakeTriton, connect: Connect, outputs: Arrays) -> None:
    triton.infer = lambda *_: outputs
    with pytest.raises(ServerError, match=r"toy_uncached at .*: output scores: expected float32 \[1, 4\], got "):
        connect(triton.url).rank(**arguments(2, 3))


def test_no_answer_within_the_deadline(triton: FakeTriton, connect: Connect) -> None:
    triton.infer = triton.hang
    client = connect(triton.url)
    client.signature()
    with pytest.raises(DeadlineError, match="no answer within the deadline"):
        client.rank(**arguments(2 * MAX_CANDIDATES, 3), deadline=0.3)
    batch = {name: array[:, 0] if name == "hour" else array for name, array in batch_of_one(arguments(2, 3)).items()}
    with pytest.raises(DeadlineError, match="no answer within the deadline"):
        client.infer(batch, deadline=0.1)


def test_one_deadline_for_the_whole_call(triton: FakeTriton, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[float] = []

    def note(inputs: Arrays, context: grpc.ServicerContext) -> Arrays:
        left.append(context.time_remaining())
        return toy(inputs)

    triton.infer = note
    client = connect(triton.url)
    client.signature()
    # Every look at the clock takes 100 s: one at the start, one before the requests are sent.
    clock = itertools.count(step=100)
    monkeypatch.setattr("cleave.clients.deadline.time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    client.rank(**arguments(2 * MAX_CANDIDATES, 3), deadline=1000)
    assert len(left) == 2
    assert all(850 < seconds < 950 for seconds in left)  # gRPC rounds on the wire
    with pytest.raises(DeadlineError, match=r"toy_uncached at .*: no answer within 50 s; give it more time"):
        client.rank(**arguments(2, 3), deadline=50)
    assert len(left) == 2


@pytest.mark.parametrize(
    "deadline", [0, -1, float("nan"), float("inf"), "5", True, 1e12, pytest.param(10**5000, id="huge")]
)
def test_deadlines_that_are_none(triton: FakeTriton, connect: Connect, deadline: Any) -> None:
    got = "a value of type int" if deadline.__class__ is int and deadline > 1 else re.escape(repr(deadline))
    with pytest.raises(InvalidRequestError, match=f"deadline: expected a number of seconds above 0 .* got {got}; "):
        connect(triton.url).rank([1], deadline=deadline)


def test_a_deadline_may_be_any_number_of_seconds(triton: FakeTriton, connect: Connect) -> None:
    seconds: list[Any] = [np.float32(60), np.int64(60), 365 * 24 * 3600, 60]
    for deadline in seconds:
        assert len(connect(triton.url).rank(**arguments(2, 3), deadline=deadline).scores) == 2


def test_a_client_of_another_event_loop_is_refused(triton: FakeTriton) -> None:
    client = AsyncRankerClient(triton.url, MODEL)
    assert len(asyncio.run(client.rank(**arguments(2, 3))).scores) == 2
    with pytest.raises(InvalidRequestError, match="expected the event loop of the client's first call, got another"):
        asyncio.run(client.rank(**arguments(2, 3)))


def test_the_signature_is_learned_once_and_again_after_an_error(triton: FakeTriton, connect: Connect) -> None:
    client = connect(triton.url)
    client.rank(**arguments(2, 3))
    client.rank(**arguments(2, 3))
    assert triton.num_descriptions == 1
    triton.infer = lambda _, context: context.abort(grpc.StatusCode.INVALID_ARGUMENT, "another build")
    with pytest.raises(InvalidRequestError):
        client.rank(**arguments(2, 3))
    triton.infer = lambda inputs, _: toy(inputs)
    client.rank(**arguments(2, 3))
    assert triton.num_descriptions == 2


def test_a_client_lives_through_a_restart_on_a_new_build(triton: FakeTriton, connect: Connect) -> None:
    client = connect(triton.url)
    client.rank(**arguments(2, 3))
    triton.stop()
    with pytest.raises(UnavailableError):
        client.rank(**arguments(2, 3))
    triton.signature = SIGNATURE | {
        "axes": SIGNATURE["axes"] | {"candidates": {"min": 1, "opt": 8, "max": 8, "buckets": [8]}}
    }
    triton.start()
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            client.rank(**arguments(2, 3))
            break
        except UnavailableError:
            assert time.monotonic() < give_up
            time.sleep(0.05)
    assert [request["items"].shape[1] for request in triton.requests] == [4, 8]


def test_a_closed_client(triton: FakeTriton, connect: Connect) -> None:
    client = connect(triton.url)
    client.rank(**arguments(2, 3))
    client.close()
    with pytest.raises(InvalidRequestError, match=r"toy_uncached at .*: the client is closed; make another one"):
        client.rank(**arguments(2, 3))


def test_closing_ends_what_another_thread_waits_for(triton: FakeTriton) -> None:
    arrived = threading.Event()

    def wait(inputs: Arrays, context: grpc.ServicerContext) -> Arrays:
        arrived.set()
        return triton.hang(inputs, context)

    triton.infer = wait
    client = RankerClient(triton.url, MODEL)
    with ThreadPoolExecutor(1) as threads:
        ranking = threads.submit(client.rank, **arguments(2, 3))
        assert arrived.wait(PATIENCE_S)
        client.close()
        with pytest.raises(UnavailableError, match="cancelled as the client was closed"):
            ranking.result(PATIENCE_S)


def test_messages_larger_than_grpcs_own_limit(triton: FakeTriton, connect: Connect) -> None:
    triton.ballast_bytes = 5 << 20  # gRPC's limit is 4 MiB
    assert len(connect(triton.url).rank(**arguments(2, 3)).scores) == 2


def test_threads_may_share_a_client(triton: FakeTriton) -> None:
    given = [arguments(num_candidates, 3, seed=num_candidates) for num_candidates in range(1, 9)]
    with RankerClient(triton.url, MODEL) as client, ThreadPoolExecutor(len(given)) as threads:
        rankings = list(threads.map(lambda each: client.rank(**each), given))
    for each, ranking in zip(given, rankings, strict=True):
        expected = toy(batch_of_one(each))["scores"][0]
        np.testing.assert_allclose(ranking.scores, expected, rtol=1e-5, atol=1e-3)


async def test_tasks_may_share_a_client(triton: FakeTriton) -> None:
    given = [arguments(num_candidates, 3, seed=num_candidates) for num_candidates in range(1, 9)]
    async with AsyncRankerClient(triton.url, MODEL) as client:
        rankings = await asyncio.gather(*(client.rank(**each) for each in given))
    for each, ranking in zip(given, rankings, strict=True):
        expected = toy(batch_of_one(each))["scores"][0]
        np.testing.assert_allclose(ranking.scores, expected, rtol=1e-5, atol=1e-3)


async def test_a_cancelled_task_cancels_its_requests(triton: FakeTriton) -> None:
    cancelled, arrived = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait(inputs: Arrays, context: grpc.ServicerContext) -> Arrays:
        context.add_callback(cancelled.set)
        loop.call_soon_threadsafe(arrived.set)
        cancelled.wait(timeout=PATIENCE_S)
        return toy(inputs)

    triton.infer = wait
    async with AsyncRankerClient(triton.url, MODEL) as client:
        task = asyncio.create_task(client.rank(**arguments(2, 3)))
        await asyncio.wait_for(arrived.wait(), PATIENCE_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await asyncio.to_thread(cancelled.wait, PATIENCE_S)


def test_both_clients_have_the_same_methods() -> None:
    def methods(client: type) -> set[str]:
        return {name for name, member in vars(client).items() if inspect.isfunction(member) and name[0] != "_"}

    assert methods(RankerClient) == methods(AsyncRankerClient)


def test_the_folder_needs_nothing_else_of_the_project(triton: FakeTriton) -> None:
    program = f"""
import sys
for name in ("builders", "serving", "perf", "torch", "polars", "onnx"):
    sys.modules[name] = None
from cleave.clients import RankerClient
with RankerClient({triton.url!r}, {MODEL!r}) as client:
    print(client.signature().candidate_axis.max)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (f"{MAX_CANDIDATES}\n", "", 0)


BUILDS = [version_of_build(digit * 64, {}) for digit in "ab"]
OTHER_PAD = -3


def other_build(inputs: Arrays, _: grpc.ServicerContext) -> Arrays:
    """What a build that pads candidates with another value computes: padding with `ITEM_PAD` is scored as an item."""
    return toy({**inputs, "items": np.where(inputs["items"] == OTHER_PAD, ITEM_PAD, inputs["items"] + 100)})


def exchange(triton: FakeTriton) -> None:
    """Serve another build at the same address, without a restart that would be noticed."""
    inputs = SIGNATURE["inputs"]
    triton.signature = SIGNATURE | {"inputs": inputs | {"items": inputs["items"] | {"pad": OTHER_PAD}}}
    triton.infer = other_build
    triton.version = BUILDS[1]


def test_another_build_is_learned_and_the_call_repeated(triton: FakeTriton, connect: Connect) -> None:
    triton.version = BUILDS[0]
    client, given = connect(triton.url), arguments(MAX_CANDIDATES + 1, 3)
    first = client.rank(**given)
    exchange(triton)
    second = client.rank(**given)
    assert [ranking.build for ranking in (first, second)] == [build_of_version(version) for version in BUILDS]
    assert np.isfinite(second.scores).all()
    assert triton.num_descriptions == 2
    client.rank(**given)
    assert triton.num_descriptions == 2


def test_all_requests_of_a_call_are_of_one_build(triton: FakeTriton, connect: Connect) -> None:
    """The build changes between two requests of one call."""
    triton.version = BUILDS[0]
    client, given = connect(triton.url), arguments(3 * MAX_CANDIDATES, 3)
    first = client.rank(**given).scores
    changed = threading.Event()

    def change(inputs: Arrays, _: grpc.ServicerContext) -> Arrays:
        if not changed.is_set():
            changed.set()
            exchange(triton)
            triton.infer = lambda inputs, _: {name: array + 1 for name, array in toy(inputs).items()}
        return toy(inputs)

    triton.infer = change
    scores = client.rank(**given).scores
    np.testing.assert_allclose(scores, first + 1, rtol=1e-6)


def test_builds_that_change_with_every_request_are_an_error_to_repeat(triton: FakeTriton, connect: Connect) -> None:
    triton.version = BUILDS[0]
    client, given = connect(triton.url), arguments(2, 3)
    client.rank(**given)
    versions = itertools.cycle(BUILDS)
    triton.described = lambda: setattr(triton, "version", next(versions))
    exchange(triton)
    with pytest.raises(OtherBuildError, match=r"expected build bbbbbbbb\.\w{6}, as the server just said, got another"):
        client.rank(**given)
    triton.described = lambda: None
    assert client.rank(**given).build == build_of_version(triton.version)


def test_a_refusal_by_what_was_learned_long_ago_is_looked_at_again(triton: FakeTriton, connect: Connect) -> None:
    client, given = connect(triton.url), arguments(2, MAX_HISTORY + 1)
    for _ in range(2):
        with pytest.raises(InvalidRequestError, match="axis history: expected at most"):
            client.rank(**given)
    assert triton.num_descriptions == 2
    longer = {"min": 1, "opt": 16, "max": 2 * MAX_HISTORY, "buckets": [2 * MAX_HISTORY]}
    triton.signature = SIGNATURE | {"axes": SIGNATURE["axes"] | {"history": longer}}
    expected = toy(batch_of_one(given))["scores"][0]
    np.testing.assert_allclose(client.rank(**given).scores, expected, rtol=1e-5, atol=1e-3)
    triton.stop()
    with pytest.raises(InvalidRequestError, match="unknown tensor 'x'"):
        client.rank({"x": 1})


def test_a_model_that_is_gone_after_it_was_served_may_come_back(triton: FakeTriton, connect: Connect) -> None:
    client = connect(triton.url)
    client.rank(**arguments(2, 3))
    triton.model = "another"
    triton.version = BUILDS[1]
    with pytest.raises(UnavailableError, match="it was served before, so the server starts or stops"):
        client.rank(**arguments(2, 3))
    triton.model = MODEL
    assert client.rank(**arguments(2, 3)).build == build_of_version(BUILDS[1])


def test_a_batch_that_the_caller_made_is_not_sent_to_another_build(triton: FakeTriton, connect: Connect) -> None:
    """It may be padded as the build before pads."""
    triton.version = BUILDS[0]
    batch = {name: array[:, 0] if name == "hour" else array for name, array in batch_of_one(arguments(2, 3)).items()}
    client = connect(triton.url)
    client.infer(batch)
    exchange(triton)
    with pytest.raises(OtherBuildError, match="expected build aaaaaaaa"):
        client.infer(batch)
    assert len(triton.requests) == 1
    assert client.signature().inputs["items"].pad == OTHER_PAD
    client.infer(batch)
    assert len(triton.requests) == 2
