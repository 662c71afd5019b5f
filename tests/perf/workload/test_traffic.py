from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cleave.builders.predict.arms import TRITON_ARMS
from cleave.clients.signature import Axis, ModelSignature, Tensor
from cleave.perf.arms import RankRequest, batch_of
from cleave.perf.errors import PerfError
from cleave.perf.workload.traffic import Messages, Traffic, arrivals_us, draw_traffic, write_messages
from cleave.perf.workload.workload import Workload, workload_from_dict
from tests.perf.workload.test_workload import CONTENT
from tests.zoo_cuts import zoo_cut

RANKER = zoo_cut("append").ranker


def workload(**change: Any) -> Workload:
    return workload_from_dict("test", {**CONTENT, **change})


def traffic(num_requests: int = 20, **change: Any) -> Traffic:
    of = workload(**change)
    return draw_traffic(of, list(of.points())[-1], RANKER, num_requests)


def signature(arm: str) -> ModelSignature:
    """What a server says of the model of an arm."""
    axes = {
        axis.name: Axis(name=axis.name, min=axis.min, opt=axis.opt, max=axis.max, buckets=axis.buckets)
        for axis in RANKER.axes
    }
    inputs = {
        tensor.name: Tensor(
            tensor.name,
            tensor.numpy_dtype,
            tuple(axis if isinstance(axis, int) else axes[axis.name] for axis in tensor.axes),
            role,
            tensor.pad,
        )
        for role, tensor in RANKER.tensors()
        if role != "output"
    }
    return ModelSignature(TRITON_ARMS[arm].model("append"), 64, inputs, {})


def written(arm: str, of: Traffic, folder: Path) -> tuple[Messages, list[dict[str, Any]]]:
    messages = write_messages(TRITON_ARMS[arm], signature(arm), of.requests, folder / "inputs.json")
    return messages, json.loads(messages.file.read_text())["data"]


@pytest.mark.parametrize("arm", TRITON_ARMS)
def test_equal_seeds_make_equal_bytes(arm: str, tmp_path: Path) -> None:
    texts = []
    for seed in (1, 1, 2):
        written(arm, traffic(3, seed=seed), tmp_path)
        texts.append((tmp_path / "inputs.json").read_bytes())
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("share", [0, 0.5, 0.9, 1])
def test_exactly_the_share_of_the_workload_is_known(share: float) -> None:
    of = traffic(40, cached_share=share)
    assert of.hit_rate == pytest.approx(share)
    assert not set(of.new_users) & set(of.known_users)
    assert len(of.new_users) == len(set(of.new_users))


def test_a_user_has_one_history_and_new_candidates_each_time() -> None:
    of = traffic(60, users=5)
    first, second, *_ = [request for request in of.requests if request.user_id == of.requests[0].user_id]
    np.testing.assert_array_equal(first.history["history_items"], second.history["history_items"])
    assert not np.array_equal(first.candidates["candidate_items"], second.candidates["candidate_items"])


def test_users_come_by_zipfs_law() -> None:
    of = traffic(400, users=10, zipf=1.0, history=1, candidates=1)
    counts = [sum(request.user_id == f"bench-{user}" for request in of.requests) for user in (1, 2, 10)]
    assert counts[0] > counts[1] > counts[2]


def test_a_shorter_turn_of_known_users_is_the_beginning_of_a_longer_one() -> None:
    short, long = traffic(3), traffic(9)
    for one, other in zip(short.requests, long.requests, strict=False):
        assert one.user_id == other.user_id
        np.testing.assert_array_equal(one.candidates["candidate_items"], other.candidates["candidate_items"])


def test_sizes_beyond_the_models_are_refused() -> None:
    with pytest.raises(PerfError, match="workload: history: expected 1 to 4096, which append takes, got 5000"):
        traffic(1, history=5000)


def test_a_row_is_written_as_the_client_would_pad_it(tmp_path: Path) -> None:
    messages, rows = written("cached", traffic(3, history=20, candidates=17), tmp_path)
    assert (messages.batch, messages.of_request, len(rows)) == (1, (1, 1, 1), 3)
    assert rows[0]["history_items"]["shape"] == [32]
    assert rows[0]["history_items"]["content"][20:] == [0] * 12
    assert rows[0]["candidate_genres"]["shape"] == [32, 20]
    assert rows[0]["user_age"]["shape"] == [1]
    assert rows[0]["user_id"] == {"content": [traffic(3).requests[0].user_id], "shape": [1]}


def test_the_naive_arm_has_a_row_for_each_candidate(tmp_path: Path) -> None:
    of = traffic(2, history=20, candidates=17)
    messages, rows = written("per_candidate", of, tmp_path)
    # 17 candidates in batches of 9, of whose 18 rows the last is filled with one more of the last candidate.
    assert (messages.batch, messages.of_request, len(rows)) == (9, (2, 2), 36)
    items = of.requests[1].candidates["candidate_items"]
    assert [row["candidate_items"]["content"] for row in rows[18:]] == [[item] for item in [*items, items[-1]]]
    assert all(row["history_items"] == rows[18]["history_items"] for row in rows[18:])


def test_long_histories_make_small_batches() -> None:
    history = {"history_items": np.zeros(100_000, np.int64)}
    request = RankRequest(history, {}, {"candidate_items": np.zeros(64, np.int64)})
    assert batch_of(TRITON_ARMS["per_candidate"], [request], 64) == 2


def test_a_message_has_no_more_rows_than_the_model_takes() -> None:
    request = RankRequest({"history_items": np.zeros(8, np.int64)}, {}, {"candidate_items": np.zeros(64, np.int64)})
    assert [batch_of(TRITON_ARMS["per_candidate"], [request], takes) for takes in (64, 8)] == [16, 8]


def test_arrivals_are_a_poisson_process_and_a_request_comes_at_once() -> None:
    messages = Messages(Path(), 16, (4,) * 1000)
    waits = np.array(arrivals_us(workload(), 50, messages)).reshape(1000, 4)
    assert not waits[:, 1:].any()
    assert waits[:, 0].mean() == pytest.approx(20_000, rel=0.1)
    assert waits[:, 0].std() == pytest.approx(20_000, rel=0.15)
    assert waits.tolist() == np.array(arrivals_us(workload(), 50, messages)).reshape(1000, 4).tolist()
