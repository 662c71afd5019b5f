"""The properties of every zoo model, and its answers to bad input, through a running server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from cleave.builders.onnx_graph.random_inputs import Arrays, draw_inputs
from cleave.builders.predict.arms import TRITON_ARMS
from cleave.builders.spec import Ranker
from cleave.builders.zoo import ZOO
from cleave.clients import InvalidRequestError, RankerClient
from cleave.perf.arms import ArmClient, request_from_arrays
from cleave.serving.server.triton import TritonServer
from tests.zoo_cuts import NUM_ITEMS, zoo_cut

TOLERANCE = 1e-5
EVENTS, CANDIDATES = 21, 30

every_model = pytest.mark.parametrize("name", ZOO)


@pytest.fixture
def server(zoo_server: TritonServer) -> TritonServer:
    return zoo_server


@pytest.fixture
def client(server: TritonServer, name: str) -> Iterator[RankerClient]:
    with RankerClient(server.grpc_url, f"{name}_uncached") as client:
        yield client


def draw(ranker: Ranker, events: int = EVENTS, candidates: int = CANDIDATES, seed: int = 0) -> Arrays:
    """One user's inputs, without the batch axis."""
    sizes = {"history": events, "candidates": candidates}
    return {name: array[0] for name, array in draw_inputs(ranker, sizes, 1, np.random.default_rng(seed)).items()}


def rank(client: RankerClient, ranker: Ranker, inputs: Arrays) -> Any:
    request = request_from_arrays(ranker, inputs)
    return client.rank(request.candidates, history=request.history, request=request.request).scores


def torch_scores(ranker: Ranker, inputs: Arrays) -> Any:
    with torch.inference_mode():
        scores = ranker.module(**{name: torch.from_numpy(array[None]) for name, array in inputs.items()})
    return scores[0].numpy()


def take(ranker: Ranker, inputs: Arrays, places: Any) -> Arrays:
    return inputs | {tensor.name: inputs[tensor.name][places] for tensor in ranker.candidate}


@every_model
@pytest.mark.parametrize(("events", "candidates"), [(1, 1), (15, 16), (21, 30), (70, 100)])
def test_every_arm_gives_the_scores_of_torch(name: str, events: int, candidates: int, server: TritonServer) -> None:
    ranker = zoo_cut(name).ranker
    inputs = draw(ranker, events, candidates, seed=events)
    expected = torch_scores(ranker, inputs)
    assert np.ptp(expected) > 1e-3 or candidates == 1
    for arm in TRITON_ARMS.values():
        with ArmClient(server.grpc_url, name, arm) as asked:
            np.testing.assert_allclose(asked.scores(request_from_arrays(ranker, inputs)), expected, atol=TOLERANCE)


@every_model
def test_candidates_together_score_as_each_alone(name: str, client: RankerClient) -> None:
    ranker = zoo_cut(name).ranker
    inputs = draw(ranker)
    together = rank(client, ranker, inputs)
    for place in range(0, CANDIDATES, 7):
        alone = rank(client, ranker, take(ranker, inputs, [place]))
        np.testing.assert_allclose(alone, together[[place]], atol=TOLERANCE)


@every_model
def test_permuted_candidates_have_permuted_scores(name: str, client: RankerClient) -> None:
    ranker = zoo_cut(name).ranker
    inputs = draw(ranker)
    order = np.random.default_rng(1).permutation(CANDIDATES)
    permuted = rank(client, ranker, take(ranker, inputs, order))
    np.testing.assert_allclose(permuted, rank(client, ranker, inputs)[order], atol=TOLERANCE)


@every_model
def test_replacing_a_candidate_changes_no_other_score(name: str, client: RankerClient) -> None:
    ranker = zoo_cut(name).ranker
    inputs, others = draw(ranker), draw(ranker, seed=1)
    replaced = inputs | {t.name: np.r_[others[t.name][:1], inputs[t.name][1:]] for t in ranker.candidate}
    before, after = rank(client, ranker, inputs), rank(client, ranker, replaced)
    np.testing.assert_allclose(after[1:], before[1:], atol=TOLERANCE)
    assert abs(after[0] - before[0]) > TOLERANCE


@every_model
def test_an_empty_history_has_scores(name: str, client: RankerClient) -> None:
    ranker = zoo_cut(name).ranker
    inputs = draw(ranker)
    empty = inputs | {tensor.name: inputs[tensor.name][:0] for tensor in ranker.user}
    padding = inputs | {tensor.name: np.zeros_like(inputs[tensor.name]) for tensor in ranker.user}
    scores = rank(client, ranker, empty)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores, rank(client, ranker, padding), atol=TOLERANCE)


@every_model
def test_more_candidates_than_a_request_holds_are_scored_as_one_list(name: str, client: RankerClient) -> None:
    ranker = zoo_cut(name).ranker
    count = ranker.candidate_axis.max + 3
    if count > 10_000:
        pytest.skip("the split is the client's, and the same for every model")
    inputs = draw(ranker, events=3, candidates=count)
    np.testing.assert_allclose(rank(client, ranker, inputs), torch_scores(ranker, inputs), atol=TOLERANCE)


@every_model
@pytest.mark.parametrize("bad_id", [-1, NUM_ITEMS + 1, 10**12])
def test_unknown_items_have_the_scores_of_the_unknown_item(name: str, bad_id: int, client: RankerClient) -> None:
    ranker = zoo_cut(name).ranker
    inputs = draw(ranker)
    unknown = NUM_ITEMS + 7

    def with_id(item: int) -> Any:
        changed = {key: inputs[key].copy() for key in ("history_items", "candidate_items")}
        for values in changed.values():
            values[3] = item
        return rank(client, ranker, inputs | changed)

    np.testing.assert_allclose(with_id(bad_id), with_id(unknown), atol=TOLERANCE)


@every_model
def test_concurrent_requests_of_equal_buckets_share_batches(name: str, server: TritonServer) -> None:
    ranker = zoo_cut(name).ranker
    requests = [draw(ranker, events=20, candidates=16, seed=seed) for seed in range(48)]
    statistics = grpcclient.InferenceServerClient(server.grpc_url)

    def counts() -> tuple[int, int]:
        model = statistics.get_inference_statistics(f"{name}_candidate_scorer").model_stats[0]
        return model.inference_count, model.execution_count

    before = counts()
    with (
        RankerClient(server.grpc_url, f"{name}_uncached") as one,
        RankerClient(server.grpc_url, f"{name}_uncached") as other,
        ThreadPoolExecutor(16) as pool,
    ):
        clients = [one, other] * (len(requests) // 2)
        scores = list(pool.map(lambda client, inputs: rank(client, ranker, inputs), clients, requests))
    deadline = time.monotonic() + 10
    while counts()[0] - before[0] < len(requests) and time.monotonic() < deadline:  # counted after the answer is sent
        time.sleep(0.01)
    inferences, executions = (after - earlier for after, earlier in zip(counts(), before, strict=True))
    statistics.close()
    assert inferences == len(requests)
    assert executions < inferences
    for got, inputs in zip(scores, requests, strict=True):
        np.testing.assert_allclose(got, torch_scores(ranker, inputs), atol=TOLERANCE)


def send(server: TritonServer, model: str, arrays: Arrays) -> Any:
    """One request of one user as it is, past every check of the client."""
    tensors = []
    for name, array in arrays.items():
        values = array[None] if array.ndim else array.reshape(1, 1)
        tensor = grpcclient.InferInput(name, values.shape, np_to_triton_dtype(values.dtype))
        tensor.set_data_from_numpy(np.ascontiguousarray(values))
        tensors.append(tensor)
    with grpcclient.InferenceServerClient(server.grpc_url) as raw:
        return raw.infer(model, tensors).as_numpy("scores")


def _nan(inputs: Arrays) -> Arrays:
    genres = inputs["candidate_genres"].copy()
    genres[1, 2] = np.nan
    return inputs | {"candidate_genres": genres}


BAD = {
    "no candidates": (
        lambda x: x | {"candidate_items": x["candidate_items"][:0], "candidate_genres": x["candidate_genres"][:0]},
        "candidate",
    ),
    "history longer than the axis": (
        lambda x: x | {key: np.ones(1_100_000, np.int64) for key in ("history_items", "history_ratings")},
        "history",
    ),
    "a missing input": (lambda x: {key: value for key, value in x.items() if key != "request_hour"}, "request_hour"),
    "float for int": (lambda x: x | {"candidate_items": x["candidate_items"].astype(np.float32)}, "candidate_items"),
    "NaN": (_nan, "candidate_genres"),
    "histories of two lengths": (lambda x: x | {"history_ratings": x["history_ratings"][:-1]}, "history_ratings"),
    "an input nobody knows": (lambda x: x | {"colour": np.ones(1, np.int64)}, "colour"),
}


@pytest.mark.parametrize("name", ["append"])
@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("model", ["append", "append_uncached", "append_whole"])
def test_bad_requests_are_told_what_is_wrong_and_the_next_one_succeeds(
    name: str, case: str, model: str, server: TritonServer
) -> None:
    ranker = zoo_cut(name).ranker
    inputs = draw(ranker)
    spoil, named = BAD[case]
    if (model, case) == ("append", "a missing input"):
        named = "at least one output is not set"  # Triton says no more of an ensemble that has optional inputs
    with pytest.raises(InferenceServerException, match=named) as raised:
        send(server, model, spoil(inputs))  # type: ignore[no-untyped-call]
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"
    np.testing.assert_allclose(send(server, model, inputs)[0], torch_scores(ranker, inputs), atol=TOLERANCE)


@pytest.mark.parametrize("name", ["append"])
def test_the_client_refuses_bad_requests_before_they_are_sent(name: str, client: RankerClient) -> None:
    ranker = zoo_cut(name).ranker
    inputs = draw(ranker)
    for case, (spoil, named) in BAD.items():
        if case == "histories of two lengths":
            named = "history"  # noqa: PLW2901 - the client speaks of the axis
        with pytest.raises(InvalidRequestError, match=named):
            _rank_all(client, ranker, spoil(inputs))  # type: ignore[no-untyped-call]


def _rank_all(client: RankerClient, ranker: Ranker, inputs: Arrays) -> None:
    """As `rank`, with whatever else is in the inputs."""
    candidates = {tensor.name for tensor in ranker.candidate}
    user = {tensor.name for tensor in ranker.user}
    client.rank(
        {key: value for key, value in inputs.items() if key in candidates},
        history={key: value for key, value in inputs.items() if key in user},
        request={key: value for key, value in inputs.items() if key not in candidates | user},
    )
