"""`cleave refresh` as it is run: events go in, and users are ranked by id alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import valkey

from cleave import cli
from cleave.clients import NotFoundError, RankerClient
from cleave.serving.server.triton import TritonServer
from cleave.serving.store.embedded import EmbeddedStore
from tests.serving.cached_toy import GATED_ITEM, Gate, history, rest, uncached, wait_until

TOLERANCE = 1e-6
PATIENCE_S = 60


@pytest.fixture
def stream(user: str) -> str:
    return f"events of {user}"


class Worker:
    """A process of `cleave refresh`."""

    def __init__(self, store: EmbeddedStore, server: TritonServer, stream: str, *options: str) -> None:
        where = ["--store", store.url, "--url", server.grpc_url, "--stream", stream]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cleave", "refresh", "toy", *where, "--every", "0", "--lease", "1", *options],
            env=os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, number: signal.Signals | None = None) -> tuple[str, str]:
        """What it said, to stdout and stderr."""
        if number is not None:
            self.process.send_signal(number)
        return self.process.communicate(timeout=PATIENCE_S)


def happen(store: EmbeddedStore, stream: str, user: str, items: Sequence[int]) -> None:
    """The events of `history(*items)`."""
    connection: Any = valkey.Valkey.from_url(store.url)
    for time, (item, weight) in enumerate(zip(items, history(*items)["history_weights"].tolist(), strict=True)):
        fields = {"user": user, "time": time, "history_items": item, "history_weights": json.dumps(weight)}
        connection.xadd(stream, fields)


def is_fresh(client: RankerClient, server: TritonServer, user: str, items: Sequence[int]) -> bool:
    """Whether a request by id has the scores of this history, and one with the history finds it kept."""
    try:
        ranking = client.rank(user_id=user, **rest())
    except NotFoundError:
        return False
    same = np.allclose(ranking.scores, uncached(server, history(*items)), rtol=TOLERANCE, atol=TOLERANCE)
    return same and client.rank(user_id=user, history=history(*items), **rest()).summary_status == "hit"


def test_users_are_known_by_their_events(
    cached_server: TritonServer, cached_client: RankerClient, cached_store: EmbeddedStore, user: str, stream: str
) -> None:
    histories = {f"{user} {place}": list(range(1, place + 2)) for place in range(5)}
    for each, items in histories.items():
        happen(cached_store, stream, each, items)
    output, errors = Worker(cached_store, cached_server, stream, "--once").end()
    assert (output, errors) == ("toy: 15 events, 0 left out, 5 users encoded, 0 times not\n", "")
    for each, items in histories.items():
        assert is_fresh(cached_client, cached_server, each, items)


def test_a_worker_runs_until_it_is_told_to_stop(
    cached_server: TritonServer, cached_client: RankerClient, cached_store: EmbeddedStore, user: str, stream: str
) -> None:
    worker = Worker(cached_store, cached_server, stream)
    happen(cached_store, stream, user, [1])
    wait_until(lambda: is_fresh(cached_client, cached_server, user, [1]))
    output, _ = worker.end(signal.SIGTERM)
    assert worker.process.returncode == 0
    assert output == "toy: 1 events, 0 left out, 1 users encoded, 0 times not\n"


def test_what_a_killed_worker_had_begun_another_finishes(
    cached_server: TritonServer,
    cached_client: RankerClient,
    cached_store: EmbeddedStore,
    gate: Gate,
    user: str,
    stream: str,
) -> None:
    items = [GATED_ITEM, 1, 2]
    happen(cached_store, stream, user, items)
    with gate.closed():
        killed = Worker(cached_store, cached_server, stream)
        gate.wait_until_reached()
        killed.end(signal.SIGKILL)
    # What the killed one had asked for was encoded without it, and is lost here with it.
    wait_until(lambda: is_fresh(cached_client, cached_server, user, items))
    connection: Any = valkey.Valkey.from_url(cached_store.url)
    connection.delete(*(key for key in connection.keys("cleave:toy:summary:*") if user.encode() in key))
    heir = Worker(cached_store, cached_server, stream)
    wait_until(lambda: is_fresh(cached_client, cached_server, user, items))
    output, _ = heir.end(signal.SIGINT)
    assert output == "toy: 0 events, 0 left out, 1 users encoded, 0 times not\n"


def test_events_and_summaries_of_a_forgotten_user_are_gone(
    cached_server: TritonServer, cached_client: RankerClient, cached_store: EmbeddedStore, user: str, stream: str
) -> None:
    happen(cached_store, stream, user, [1, 2])
    Worker(cached_store, cached_server, stream, "--once").end()
    cached_client.forget(user)
    connection: Any = valkey.Valkey.from_url(cached_store.url)
    assert not [key for key in connection.keys("cleave:*") if user.encode() in key]
    happen(cached_store, stream, user, [3])
    Worker(cached_store, cached_server, stream, "--once").end()
    assert is_fresh(cached_client, cached_server, user, [3])


def test_a_ranker_that_is_not_served_is_said(cached_server: TritonServer, cached_store: EmbeddedStore) -> None:
    options = ["refresh", "other", "--store", cached_store.url, "--url", cached_server.grpc_url]
    assert cli.main(options) == cli.EXIT_WRONG_USE
