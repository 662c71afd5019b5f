"""What a client sees of the backend, through a real Triton."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as grpcclient
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from cleave.serving.server.triton import TritonServer
from tests.serving import toy

DEADLINE_S = 20


def infer(
    client: Any, model: str, arrays: Mapping[str, NDArray[Any]], outputs: list[str] | None = None
) -> dict[str, NDArray[Any]]:
    inputs = []
    for name, array in arrays.items():
        entry = grpcclient.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        entry.set_data_from_numpy(array)
        inputs.append(entry)
    requested = [grpcclient.InferRequestedOutput(name) for name in outputs] if outputs else None
    result = client.infer(model, inputs, outputs=requested, client_timeout=DEADLINE_S)
    return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}


def _in_process(repository: Path, arrays: toy.Arrays) -> Any:
    session = onnxruntime.InferenceSession(
        str(repository / "toy_whole" / "1" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    return session.run(["scores"], toy.graph_inputs(arrays))[0]


def _concurrently(server: TritonServer, model: str, requests: list[toy.Arrays]) -> list[Any]:
    """The answer, or the error, of each request; all are sent at once."""
    answers: list[Any] = [None] * len(requests)
    ready = threading.Barrier(len(requests))

    def send(place: int) -> None:
        with grpcclient.InferenceServerClient(server.grpc_url) as client:
            ready.wait(DEADLINE_S)
            try:
                answers[place] = infer(client, model, requests[place])
            except InferenceServerException as error:
                answers[place] = error

    threads = [threading.Thread(target=send, args=(place,)) for place in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.parametrize("model", ["toy_whole", "toy_uncached"])
@pytest.mark.parametrize(("users", "history", "candidates"), [(1, 1, 1), (1, 4, 8), (3, 32, 64), (8, 7, 5)])
def test_scores_are_those_of_the_graph(
    model: str, users: int, history: int, candidates: int, repository: Path, client: Any, rng: np.random.Generator
) -> None:
    arrays = toy.request(rng, history, candidates, users)
    scores = infer(client, model, arrays)["scores"]
    assert scores.shape == (users, candidates)
    np.testing.assert_allclose(scores, _in_process(repository, arrays), atol=1e-6)


def test_every_type_comes_back_as_it_was_sent(client: Any, rng: np.random.Generator) -> None:
    arrays = {name: rng.integers(0, 2, (2, 5)).astype(dtype) for name, (_, dtype, _) in toy.TYPES.items()}
    answers = infer(client, "types_whole", arrays)
    for name, array in arrays.items():
        assert answers[f"same_{name}"].dtype == array.dtype
        np.testing.assert_array_equal(answers[f"same_{name}"], array)


def test_only_the_outputs_asked_for_are_sent(client: Any) -> None:
    arrays = {name: np.ones((1, 2), dtype) for name, (_, dtype, _) in toy.TYPES.items()}
    assert set(infer(client, "types_whole", arrays, ["same_an_int8"])) == {"same_an_int8"}
    user = {name: array for name, array in toy.request(np.random.default_rng(0)).items() if "history" in name}
    assert set(infer(client, "toy_history_encoder", user, ["history_mask"])) == {"history_mask"}


def test_requests_of_equal_shapes_share_runs(
    server: TritonServer, client: Any, repository: Path, rng: np.random.Generator
) -> None:
    def counts() -> tuple[int, int]:
        statistics = client.get_inference_statistics("toy_candidate_scorer").model_stats[0]
        return statistics.inference_count, statistics.execution_count

    before = counts()
    requests = [toy.request(rng) for _ in range(64)]
    answers = [a for i in range(0, 64, 16) for a in _concurrently(server, "toy_uncached", requests[i : i + 16])]
    deadline = time.monotonic() + 5  # a request is counted after it was answered
    while counts()[0] < before[0] + 64 and time.monotonic() < deadline:
        time.sleep(0.05)
    inferences, executions = (after - at_first for after, at_first in zip(counts(), before, strict=True))
    assert inferences == 64
    assert executions < inferences
    for request, answer in zip(requests, answers, strict=True):
        np.testing.assert_allclose(answer["scores"], _in_process(repository, request), atol=1e-6)


def test_one_bad_request_of_a_batch_fails_alone(server: TritonServer, client: Any) -> None:
    def of_size(count: int) -> int:
        batches = client.get_inference_statistics("lookup_whole").model_stats[0].batch_stats
        return sum(batch.compute_infer.count for batch in batches if batch.batch_size == count)

    before = of_size(toy.LOOKUP_BATCH)
    requests = [{"ids": np.array([[i, i]]), "factors": np.ones((1, 2), np.float32)} for i in (1, 99, 3)]
    first, second, third = _concurrently(server, "lookup_whole", requests)
    assert of_size(toy.LOOKUP_BATCH) == before + 1, "the three requests were not run as one batch"
    assert first["found"].shape == third["found"].shape == (1, 2, 4)
    assert not np.array_equal(first["found"], third["found"])
    assert second.status() == "StatusCode.INVALID_ARGUMENT"
    assert second.message() == (
        "model 'lookup_whole': input 'ids': expected ids from -50 to 49, got 99; send ids that the model knows"
    )


def test_a_negative_id_counts_from_the_end_of_the_table_as_onnx_defines(client: Any, rng: np.random.Generator) -> None:
    arrays = toy.request(rng)
    last, negative = arrays | {"request_hour": np.array([[23]])}, arrays | {"request_hour": np.array([[-1]])}
    np.testing.assert_array_equal(
        infer(client, "toy_whole", last)["scores"], infer(client, "toy_whole", negative)["scores"]
    )


def _without(name: str) -> Any:
    return lambda arrays: {key: array for key, array in arrays.items() if key != name}


def _with(name: str, value: Any) -> Any:
    return lambda arrays: arrays | {name: value(arrays[name])}


def _put(value: float) -> Any:
    def put(array: NDArray[Any]) -> NDArray[Any]:
        changed = array.copy()
        changed.flat[-1] = value
        return changed

    return put


def _of_sizes(history: int, candidates: int) -> Any:
    return lambda arrays: toy.request(np.random.default_rng(1), history, candidates)


BAD_REQUESTS = {
    "unknown id": (_with("candidate_items", _put(50)), "input 'candidate_items': expected ids from -50 to 49, got 50"),
    "unknown id of the user": (_with("history_items", _put(-51)), "input 'history_items': expected ids from -50 to 49"),
    "NaN": (_with("candidate_tags", _put(np.nan)), "input 'candidate_tags': expected finite numbers, got nan at"),
    "infinity": (_with("history_weights", _put(np.inf)), "input 'history_weights': expected finite numbers, got inf"),
    "no candidates": (
        _of_sizes(4, 0),
        "input 'candidate_items': axis 'candidates': expected 1 to 64, got 0; send at least 1",
    ),
    "history too long": (
        _of_sizes(33, 8),
        "input 'history_items': axis 'history': expected 1 to 32, got 33; send at most 32",
    ),
    "one tensor shorter": (
        _with("candidate_tags", lambda array: array[:, 1:]),
        "input 'candidate_tags': axis 'candidates': expected 8 as input 'candidate_items' has, got 7",
    ),
    "float for int": (_with("candidate_items", lambda array: array.astype(np.float32)), "candidate_items"),
    "int for float": (_with("candidate_tags", lambda array: array.astype(np.int64)), "candidate_tags"),
    "missing input": (_without("candidate_items"), "candidate_items"),
    "unknown input": (lambda arrays: arrays | {"nobody": np.zeros((1, 1), np.float32)}, "nobody"),
    "other rank": (_with("candidate_items", lambda array: array[:, :, None]), "candidate_items"),
    "other fixed size": (_with("candidate_tags", lambda array: array[:, :, :2]), "candidate_tags"),
    "one row too many": (_with("request_hour", lambda array: np.repeat(array, 2, axis=0)), "batch size"),
    "too many rows": (lambda arrays: {n: np.repeat(a, 9, axis=0) for n, a in arrays.items()}, "batch"),
    "no rows": (lambda arrays: {name: array[:0] for name, array in arrays.items()}, "size mismatch"),
}


@pytest.mark.parametrize("model", ["toy_whole", "toy_uncached"])
@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_told_what_is_wrong_and_the_next_one_succeeds(
    name: str, model: str, repository: Path, client: Any, rng: np.random.Generator
) -> None:
    spoil, message = BAD_REQUESTS[name]
    arrays = toy.request(rng)
    with pytest.raises(InferenceServerException) as caught:
        infer(client, model, spoil(arrays))
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert message in caught.value.message()
    np.testing.assert_allclose(infer(client, model, arrays)["scores"], _in_process(repository, arrays), atol=1e-6)


def test_an_unknown_output_is_refused_by_name(client: Any, rng: np.random.Generator) -> None:
    with pytest.raises(InferenceServerException, match="unexpected inference output 'nothing'"):
        infer(client, "toy_whole", toy.request(rng), ["nothing"])
