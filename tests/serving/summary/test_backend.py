"""The summary cache through a real Triton, with a real store that is killed and a gate that holds the encoder."""

from __future__ import annotations

import itertools
import os
import re
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import valkey

from cleave import DISTRIBUTION
from cleave.clients import (
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    RankerClient,
    Ranking,
    UnavailableError,
)
from cleave.serving.errors import ServingError
from cleave.serving.limits import Limits
from cleave.serving.server.triton import TritonServer
from cleave.serving.store.embedded import EmbeddedStore
from cleave.serving.summary.cache import PUBLISH_S
from cleave.serving.summary.metrics import INFO, METRICS
from tests.serving import cached_toy, toy
from tests.serving.cached_toy import GATED_ITEM, Gate, history, rest, uncached, wait_until

TOLERANCE = 1e-6


@pytest.fixture
def store(cached_store: EmbeddedStore) -> EmbeddedStore:
    return cached_store


@pytest.fixture
def server(cached_server: TritonServer) -> TritonServer:
    return cached_server


@pytest.fixture
def client(cached_client: RankerClient) -> RankerClient:
    return cached_client


def statistics(server: TritonServer, model: str) -> tuple[int, int]:
    """Users that a model was given since the server started, and batches that it ran."""
    import tritonclient.grpc as grpcclient

    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        counted = client.get_inference_statistics(model).model_stats[0]
        return int(counted.inference_count), int(counted.execution_count)


def encoded_users(server: TritonServer) -> int:
    """Histories that the encoder was given since the server started."""
    return statistics(server, "toy_history_encoder")[0]


def metric(server: TritonServer, name: str, **labels: str) -> float:
    """The sum of a metric over the series that have these labels."""
    with urllib.request.urlopen(server.metrics_url) as answer:
        lines = answer.read().decode().splitlines()
    found = [line for line in lines if line.startswith(name + "{")]
    return sum(float(line.split()[-1]) for line in found if all(f'{k}="{v}"' in line for k, v in labels.items()))


def settled(counts: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Counts once everything is in them that happened before."""
    read = counts()
    while True:
        time.sleep(3 * PUBLISH_S)
        before, read = read, counts()
        if before == read:
            return read


def test_the_four_cases(server: TritonServer, client: RankerClient, user: str) -> None:
    with pytest.raises(
        NotFoundError, match=f"user '{re.escape(user)}': no summary to use, as none is kept; send the user"
    ):
        client.rank(user_id=user, **rest())
    for given, status in ((history(1, 2), "miss"), (history(1, 2), "hit"), (history(1, 2, 3), "stale")):
        ranking = client.rank(user_id=user, history=given, **rest())
        assert ranking.summary_status == status
        np.testing.assert_allclose(ranking.scores, uncached(server, given), rtol=TOLERANCE, atol=TOLERANCE)
    by_id = client.rank(user_id=user, **rest(1))
    assert by_id.summary_status == "hit"
    np.testing.assert_allclose(by_id.scores, uncached(server, history(1, 2, 3), 1), rtol=TOLERANCE, atol=TOLERANCE)


def test_a_history_is_known_without_an_id_too(client: RankerClient) -> None:
    assert [client.rank(history=history(7, 8, 9), **rest()).summary_status for _ in range(2)] == ["miss", "hit"]


def test_a_user_without_events(server: TritonServer, client: RankerClient, user: str) -> None:
    for status in ("miss", "hit"):
        ranking = client.rank(user_id=user, history=history(), **rest())
        assert ranking.summary_status == status
        np.testing.assert_allclose(ranking.scores, uncached(server, history()), rtol=TOLERANCE, atol=TOLERANCE)


def test_users_of_one_request(server: TritonServer, client: RankerClient, user: str) -> None:
    rng = np.random.default_rng(0)
    batch = toy.request(rng, history=16, users=3)
    ids = np.array([f"{user} {place}" for place in range(3)])
    client.warm(ids[1], {name: batch[name][1] for name in ("history_items", "history_weights")})
    given = {name: array[:, 0] if name == "request_hour" else array for name, array in batch.items()}
    answer = client.infer({"user_id": ids, **given})
    assert answer["summary_status"].tolist() == [b"miss", b"hit", b"miss"]
    with RankerClient(server.grpc_url, "toy_uncached") as other:
        np.testing.assert_allclose(answer["scores"], other.infer(given)["scores"], rtol=TOLERANCE, atol=TOLERANCE)
    by_id = client.infer({"user_id": ids} | {name: a for name, a in given.items() if not name.startswith("history")})
    np.testing.assert_allclose(by_id["scores"], answer["scores"], rtol=TOLERANCE, atol=TOLERANCE)


def test_warm_and_forget(client: RankerClient, store: EmbeddedStore, user: str) -> None:
    assert [client.warm(user, history(4, 5)) for _ in range(2)] == ["miss", "hit"]
    assert client.rank(user_id=user, **rest()).summary_status == "hit"
    assert any(user.encode() in key for key in keys(store))
    client.forget(user)
    client.forget(user)
    assert not any(user.encode() in key for key in keys(store))
    with pytest.raises(NotFoundError):
        client.rank(user_id=user, **rest())


def keys(store: EmbeddedStore) -> list[bytes]:
    found: Any = valkey.Valkey.from_url(store.url).keys()
    return list(found)


def summaries(store: EmbeddedStore) -> list[bytes]:
    return [key for key in keys(store) if b":summary:" in key]


def permits(store: EmbeddedStore) -> list[bytes]:
    """One for each user who was to be encoded lately."""
    return [key for key in keys(store) if b":permit:" in key]


def test_a_missing_history_is_fetched(client: RankerClient, user: str) -> None:
    assert client.rank(user_id=user, on_missing=lambda _: history(1), **rest()).summary_status == "miss"
    assert client.rank(user_id=user, on_missing=lambda _: history(1), **rest()).summary_status == "hit"


def test_equal_misses_at_the_same_time_are_encoded_once(
    server: TritonServer, client: RankerClient, gate: Gate, user: str
) -> None:
    before = encoded_users(server)
    taken, _ = statistics(server, "toy_summary_cache")
    given = history(GATED_ITEM, 1)
    with ThreadPoolExecutor(64) as threads:
        with gate.closed():
            asked = [threads.submit(client.rank, user_id=user, history=given, **rest()) for _ in range(64)]
            gate.wait_until_reached()
            wait_until(lambda: statistics(server, "toy_summary_cache")[0] == taken + 64)
        rankings = [each.result() for each in asked]
    assert encoded_users(server) == before + 1
    for each in rankings:
        assert each.summary_status == "miss", "none of them came after the others were encoded"
        np.testing.assert_allclose(each.scores, uncached(server, given), rtol=TOLERANCE, atol=TOLERANCE)


def test_a_hit_overtakes_a_miss(client: RankerClient, gate: Gate, user: str) -> None:
    client.warm(user, history(1, 2))
    with ThreadPoolExecutor(1) as threads:
        with gate.closed():
            miss = threads.submit(client.rank, user_id=f"{user} other", history=history(GATED_ITEM), **rest())
            gate.wait_until_reached()
            for _ in range(20):
                assert client.rank(user_id=user, history=history(1, 2), **rest()).summary_status == "hit"
                assert client.rank(user_id=user, **rest()).summary_status == "hit"
            assert not miss.done()
        assert miss.result().summary_status == "miss"


def test_a_bad_history_fails_alone_and_is_not_kept(
    client: RankerClient, store: EmbeddedStore, gate: Gate, user: str
) -> None:
    before = len(summaries(store))
    given = {"bad": history(toy.NUM_ITEMS, 1), "good": history(1, 2)}
    with ThreadPoolExecutor(4) as threads:
        with busy_encoder(client, store, gate, user, threads) as held:
            rankings = {
                name: threads.submit(client.rank, user_id=f"{user} {name}", history=each, **rest())
                for name, each in given.items()
            }
            wait_until(lambda: len(permits(store)) == len(held) + len(given))
        words = f"model 'toy_summary_cache': .*input 'history_items': expected ids from .* got {toy.NUM_ITEMS}"
        with pytest.raises(InvalidRequestError, match=words):
            rankings["bad"].result()
        assert {each.result().summary_status for each in (rankings["good"], *held)} == {"miss"}
    assert len(summaries(store)) == before + len(held) + 1
    with pytest.raises(NotFoundError):
        client.rank(user_id=f"{user} bad", **rest())


def test_requests_whose_time_is_over_are_not_encoded(
    server: TritonServer, client: RankerClient, store: EmbeddedStore, gate: Gate, user: str
) -> None:
    def dropped() -> float:
        return metric(server, "cleave_summary_lookups_total", by="inputs", reason="dropped")

    users, before = encoded_users(server), dropped()
    with ThreadPoolExecutor(12) as threads:
        with busy_encoder(client, store, gate, user, threads) as held:
            late = [
                threads.submit(client.rank, user_id=f"{user} {place}", history=history(1, 2), deadline=1.0, **rest())
                for place in range(8)
            ]
            for each in late:
                with pytest.raises(DeadlineError):
                    each.result()
            time.sleep(0.5)  # the server counts from when a request came to it, a little later than the client
        assert {each.result().summary_status for each in held} == {"miss"}
        assert client.warm(f"{user} next", history(1, 2)) == "miss"
        wait_until(lambda: dropped() > before)
    assert encoded_users(server) == users + len(held) + 1


def test_a_queue_that_is_full_refuses_at_once(gate: Gate, tmp_path: Path, user: str) -> None:
    repository = cached_toy.write(tmp_path, gate.folder)
    with (
        EmbeddedStore("64mb") as store,
        TritonServer(
            repository,
            list(cached_toy.MODELS),
            variables=dict(cached_toy.variables(store.url)),
            limits=Limits(max_queue=3),
        ) as server,
        RankerClient(server.grpc_url, "toy") as client,
        ThreadPoolExecutor(12) as threads,
    ):
        client.warm(user, history(3))
        with busy_encoder(client, store, gate, user, threads) as held:
            waiting = [
                threads.submit(client.rank, user_id=f"{user} {place}", history=history(1, 2), **rest())
                for place in range(3)
            ]
            wait_until(lambda: len(permits(store)) == len(held) + len(waiting))
            with pytest.raises(OverloadedError, match=r"RESOURCE_EXHAUSTED.* at most 3 users"):
                client.rank(user_id=f"{user} more", history=history(1, 2), **rest())
            assert client.rank(user_id=user, history=history(3), **rest()).summary_status == "hit", "needs no encoder"
        assert {each.result().summary_status for each in (*held, *waiting)} == {"miss"}
        assert client.warm(f"{user} more", history(1, 2)) == "miss"


@contextmanager
def busy_encoder(
    client: RankerClient, store: EmbeddedStore, gate: Gate, user: str, threads: ThreadPoolExecutor
) -> Iterator[list[Future[Ranking]]]:
    """As many users are with the encoder as it takes, which goes on when this ends; others wait in the cache."""
    valkey.Valkey.from_url(store.url).delete(*(permits(store) or [b"none"]))
    with gate.closed():
        held = []
        for place in range(Limits().max_encodings):
            one = history(*[GATED_ITEM] * (place + 1))
            held.append(threads.submit(client.rank, user_id=f"{user} held {place}", history=one, **rest()))
            wait_until(lambda: len(permits(store)) == len(held))
            gate.wait_until_reached()
        yield held


def test_a_store_that_is_killed_under_load_fails_no_request(
    server: TritonServer, client: RankerClient, store: EmbeddedStore, user: str
) -> None:
    given = [history(place, place + 1) for place in range(8)]
    expected = [uncached(server, each) for each in given]
    errors = metric(server, "cleave_summary_store_errors_total")
    statuses: list[str | None] = []
    ended = threading.Event()

    def ask_on() -> None:
        for place in itertools.takewhile(lambda _: not ended.is_set(), itertools.cycle(range(8))):
            ranking = client.rank(user_id=f"{user} {place}", history=given[place], **rest())
            np.testing.assert_allclose(ranking.scores, expected[place], rtol=TOLERANCE, atol=TOLERANCE)
            statuses.append(ranking.summary_status)

    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(ask_on) for _ in range(4)]
        try:
            wait_until(lambda: statuses[-40:] == ["hit"] * 40)
            os.kill(store.pid, signal.SIGKILL)
            wait_until(lambda: statuses[-40:] == ["store_error"] * 40)
            assert store.revive()
            wait_until(lambda: statuses[-40:] == ["hit"] * 40)
        finally:
            ended.set()
        for each in running:
            each.result()
    wait_until(lambda: metric(server, "cleave_summary_store_errors_total") > errors)
    wait_until(lambda: metric(server, "cleave_summary_lookups_total", by="inputs", reason="store_error") > 0)


def test_what_cannot_be_deleted_is_said(client: RankerClient, store: EmbeddedStore, user: str) -> None:
    client.warm(user, history(1))
    os.kill(store.pid, signal.SIGKILL)
    try:
        with pytest.raises(UnavailableError, match=r"got nothing deleted, and not .*store: delete: "):
            client.forget(user)
    finally:
        wait_until(store.revive)
    wait_until(lambda: client.warm(user, history(1)) == "hit")


def test_every_series_exists_before_anything_is_counted(server: TritonServer) -> None:
    with urllib.request.urlopen(server.metrics_url) as answer:
        text = answer.read().decode()
    for counted in METRICS:
        for values in counted.series:
            name = f"{counted.name}_count" if counted.buckets else counted.name
            labels = [f'{label}="{value}"' for label, value in zip(counted.labels, values, strict=True)]
            lines = [line for line in text.splitlines() if line.startswith(f"{name}{{")]
            assert any(all(label in line for label in labels) for line in lines), (name, labels)


def test_the_build_that_answers_is_the_one_in_the_metrics(
    server: TritonServer, client: RankerClient, user: str
) -> None:
    build = client.rank(user_id=user, history=history(1), **rest()).build
    assert metric(server, INFO.name, build=str(build), version=version(DISTRIBUTION), engine="onnxruntime") == 1


def test_the_metrics_say_what_happened(server: TritonServer, client: RankerClient, user: str) -> None:
    def counts() -> dict[str, float]:
        lookups = {
            reason: metric(server, "cleave_summary_lookups_total", by="inputs", reason=reason)
            for reason in ("miss", "hit")
        }
        return {
            **lookups,
            "read": metric(server, "cleave_summary_read_bytes_total"),
            "written": metric(server, "cleave_summary_written_bytes_total"),
            "encoded": metric(server, "cleave_summary_encoded_total"),
            "encodings": metric(server, "cleave_summary_encode_seconds_count"),
            "gets": metric(server, "cleave_summary_store_seconds_count", command="get"),
            "ages": metric(server, "cleave_summary_age_seconds_count", by="inputs"),
        }

    before = settled(counts)
    client.warm(user, history(1, 2))
    client.warm(user, history(1, 2))
    expected = {"miss": 1, "hit": 1, "encoded": 1, "encodings": 1, "gets": 2, "ages": 2}
    after = settled(counts)
    assert {name: after[name] - before[name] for name in expected} == expected
    assert after["read"] - before["read"] == after["written"] - before["written"] > 0


def test_bad_requests_are_refused(client: RankerClient, user: str) -> None:
    rng = np.random.default_rng(0)
    batch = {name: array[:, 0] if name == "request_hour" else array for name, array in toy.request(rng, 16).items()}
    half = {name: array for name, array in batch.items() if name != "history_weights"}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"user_id": ["x" * 513], **batch}, "input 'user_id': expected at most 512 bytes, got 513; send a shorter id"),
        (
            {"user_id": [user], **half},
            "input 'history_weights': expected all of history_items, history_weights or",
        ),
        ({"user_id": [""], **{n: a for n, a in half.items() if n != "history_items"}}, "got neither; send one of them"),
    ]
    for given, message in cases:
        with pytest.raises(InvalidRequestError, match=message):
            client.infer(given)
    assert client.infer({"user_id": [""], **batch})["summary_status"].tolist() == [b"miss"]


def test_another_build_never_uses_what_an_older_one_kept(gate: Gate, tmp_path: Path, user: str) -> None:
    with EmbeddedStore("64mb") as store:
        scores: dict[float, Any] = {}
        for build, (weights, status) in enumerate([(1.0, "miss"), (2.0, "miss"), (1.0, "hit")]):
            repository = cached_toy.write(
                tmp_path / str(build), gate.folder, weights=weights, fingerprint=str(int(weights)) * 64
            )
            variables = dict(cached_toy.variables(store.url))
            with (
                TritonServer(repository, list(cached_toy.MODELS), variables=variables) as server,
                RankerClient(server.grpc_url, "toy") as client,
            ):
                if status == "miss":
                    with pytest.raises(NotFoundError):
                        client.rank(user_id=user, **rest())
                ranking = client.rank(user_id=user, history=history(1, 2), **rest())
                assert ranking.summary_status == status
                np.testing.assert_allclose(
                    ranking.scores, uncached(server, history(1, 2)), rtol=TOLERANCE, atol=TOLERANCE
                )
                scores[weights] = ranking.scores
                if build == 1:
                    assert len([key for key in keys(store) if user.encode() in key]) == 2
        assert np.abs(scores[1.0] - scores[2.0]).max() > TOLERANCE


def test_several_instances_share_the_store_and_age_ends_what_is_known_by_id(
    store: EmbeddedStore, gate: Gate, tmp_path: Path, user: str
) -> None:
    repository = cached_toy.write(tmp_path, gate.folder, instances=2)
    variables = dict(cached_toy.variables(store.url, max_age_s=0.0))
    with (
        TritonServer(repository, list(cached_toy.MODELS), variables=variables) as server,
        RankerClient(server.grpc_url, "toy") as client,
    ):
        before = encoded_users(server)
        client.warm(user, history(1, 2))
        with ThreadPoolExecutor(8) as threads:
            statuses = list(threads.map(lambda _: client.warm(user, history(1, 2)), range(64)))
        assert statuses == ["hit"] * 64
        assert encoded_users(server) == before + 1
        with pytest.raises(NotFoundError, match="s old, expected at most 0 s; send the user inputs"):
            client.rank(user_id=user, **rest())
        wait_until(lambda: metric(server, "cleave_summary_lookups_total", by="inputs", reason="hit") >= 64)
        wait_until(lambda: metric(server, "cleave_summary_lookups_total", by="id", reason="expired") == 1)


def test_without_a_store_every_history_is_encoded(gate: Gate, tmp_path: Path, user: str) -> None:
    repository = cached_toy.write(tmp_path, gate.folder)
    with (
        TritonServer(repository, list(cached_toy.MODELS), variables=dict(cached_toy.variables(""))) as server,
        RankerClient(server.grpc_url, "toy") as client,
    ):
        for _ in range(2):
            ranking = client.rank(user_id=user, history=history(1, 2), **rest())
            assert ranking.summary_status == "off"
            np.testing.assert_allclose(ranking.scores, uncached(server, history(1, 2)), rtol=TOLERANCE, atol=TOLERANCE)
        with pytest.raises(NotFoundError, match="no summary to use, as this server keeps none; send the user inputs"):
            client.rank(user_id=user, **rest())
        client.forget(user)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (cached_toy.variables("http://nowhere"), "--store: expected a URL such as redis://host:6379"),
        (cached_toy.variables("", max_age_s=-1), "model 'toy_summary_cache': max age: expected seconds of at least 0"),
    ],
)
def test_a_wrong_setting_is_refused_at_the_start(
    gate: Gate, tmp_path: Path, variables: tuple[tuple[str, str], ...], message: str
) -> None:
    repository = cached_toy.write(tmp_path, gate.folder)
    with (
        pytest.raises(ServingError, match=message),
        TritonServer(repository, list(cached_toy.MODELS), variables=dict(variables)),
    ):
        pass
