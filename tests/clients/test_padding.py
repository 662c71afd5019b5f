from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cleave.clients.errors import ServerError
from cleave.clients.padding import arrays_from_answer, outputs_from_answers, padded, requests_from_arrays, slices
from cleave.clients.signature import Axis, ModelSignature, Tensor
from cleave.clients.validation import arrays_for_rank, sizes_of
from tests.clients.fake_triton import (
    CANDIDATE_BUCKETS,
    HISTORY_BUCKETS,
    MAX_CANDIDATES,
    MAX_HISTORY,
    VISIT_PAD,
    Arrays,
    toy,
)
from tests.clients.toy import arguments, batch_of_one, signature

SIGNATURE = signature()


def parts_of(arrays: Arrays, micro_batch: int | None = None) -> list[slice]:
    return slices(SIGNATURE, sizes_of(SIGNATURE, arrays), micro_batch)


def requests_of(arguments: dict[str, Any]) -> list[Arrays]:
    arrays = arrays_for_rank(SIGNATURE, arguments)
    return requests_from_arrays(SIGNATURE, arrays, parts_of(arrays))


@settings(deadline=None)
@given(
    st.integers(1, 3 * MAX_CANDIDATES + 5),
    st.integers(0, MAX_HISTORY),
    st.none() | st.integers(1, 2 * MAX_CANDIDATES),
    st.integers(0, 2**32 - 1),
)
def test_padding_and_splitting_do_not_show(
    num_candidates: int, num_visits: int, micro_batch: int | None, seed: int
) -> None:
    given_arguments = arguments(num_candidates, num_visits, seed)
    arrays = arrays_for_rank(SIGNATURE, given_arguments)
    parts = parts_of(arrays, micro_batch)
    requests = requests_from_arrays(SIGNATURE, arrays, parts)
    wired = [request | {"hour": request["hour"].reshape(1, 1)} for request in requests]
    answers = [toy(request) for request in wired]
    outputs = outputs_from_answers(SIGNATURE, sizes_of(SIGNATURE, arrays), answers, parts)
    expected = toy(batch_of_one(given_arguments))
    for name in expected:
        np.testing.assert_allclose(outputs[name], expected[name][0], rtol=1e-5, atol=1e-3)


@settings(deadline=None)
@given(st.integers(1, 3 * MAX_CANDIDATES + 5), st.integers(0, MAX_HISTORY))
def test_every_request_has_bucket_sizes(num_candidates: int, num_visits: int) -> None:
    for request in requests_of(arguments(num_candidates, num_visits)):
        assert request["visits"].shape[1] in HISTORY_BUCKETS
        assert request["items"].shape[1] in CANDIDATE_BUCKETS
        assert request["features"].shape == (*request["items"].shape, 3)
        assert request["hour"].shape == (1,)


@settings(deadline=None)
@given(st.integers(1, 5 * MAX_CANDIDATES), st.none() | st.integers(1, 2 * MAX_CANDIDATES))
def test_slices_cover_every_candidate_once_with_full_ones_first(num_candidates: int, micro_batch: int | None) -> None:
    parts = slices(SIGNATURE, {SIGNATURE.candidate_axis.name: num_candidates}, micro_batch)
    sizes = [part.stop - part.start for part in parts]
    most = min(MAX_CANDIDATES, micro_batch or MAX_CANDIDATES)
    assert [place for part in parts for place in range(part.start, part.stop)] == list(range(num_candidates))
    assert all(size == most for size in sizes[:-1])
    assert 1 <= sizes[-1] <= most


def test_the_rest_has_its_own_bucket() -> None:
    sizes = [request["items"].shape[1] for request in requests_of(arguments(2 * MAX_CANDIDATES + 1, 3))]
    assert sizes == [MAX_CANDIDATES, MAX_CANDIDATES, CANDIDATE_BUCKETS[0]]


def test_an_empty_history_is_all_padding() -> None:
    given_arguments = arguments(1, 0) | {"history": {"visits": [], "visit_weights": []}}
    (request,) = requests_of(given_arguments)
    assert request["visits"].dtype == np.int64
    assert request["visits"].tolist() == [[VISIT_PAD] * HISTORY_BUCKETS[0]]


def on_the_left(signature: ModelSignature) -> ModelSignature:
    """The same with the padding of the history in front of it."""

    def turned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: dataclasses.replace(
                tensor,
                axes=tuple(
                    dataclasses.replace(axis, padding_side="left")
                    if isinstance(axis, Axis) and axis != signature.candidate_axis
                    else axis
                    for axis in tensor.axes
                ),
            )
            for name, tensor in tensors.items()
        }

    return dataclasses.replace(signature, inputs=turned(signature.inputs), outputs=turned(signature.outputs))


@pytest.mark.parametrize("num_visits", [0, 1, HISTORY_BUCKETS[0] - 1, HISTORY_BUCKETS[0], HISTORY_BUCKETS[0] + 1])
def test_padding_stands_where_the_axis_says(num_visits: int) -> None:
    left = on_the_left(SIGNATURE)
    arrays = arrays_for_rank(left, arguments(3, num_visits))
    (request,) = requests_from_arrays(left, arrays, slices(left, sizes_of(left, arrays)))
    visits = request["visits"][0]
    padding = len(visits) - num_visits
    assert (visits[:padding] == VISIT_PAD).all()
    np.testing.assert_array_equal(visits[padding:], arrays["visits"])
    np.testing.assert_array_equal(request["items"][0, :3], arrays["items"])


def test_rows_of_an_output_are_taken_from_where_the_padding_is_not() -> None:
    left = on_the_left(SIGNATURE)
    history = next(axis for axis in left.inputs["visits"].axes if isinstance(axis, Axis))
    weights = Tensor("weights", np.dtype("float32"), (left.candidate_axis, history), "output")
    signature = dataclasses.replace(left, outputs={"weights": weights})
    answer = np.arange(4 * 16, dtype=np.float32).reshape(1, 4, 16)
    sizes = {left.candidate_axis.name: 3, history.name: 5}
    outputs = outputs_from_answers(signature, sizes, [{"weights": answer}], [slice(0, 3)])
    np.testing.assert_array_equal(outputs["weights"], answer[0, :3, 11:])


def test_an_array_of_bucket_size_is_not_copied() -> None:
    array = np.arange(HISTORY_BUCKETS[0])
    assert padded(SIGNATURE.inputs["visits"], array) is array


@pytest.mark.parametrize(
    "scores",
    [None, np.zeros((1, 3), np.float32), np.zeros((1, 4), np.float64), np.zeros(4, np.float32)],
    ids=["missing", "shape", "type", "rank"],
)
def test_an_answer_of_another_shape_is_the_servers_fault(scores: NDArray[Any] | None) -> None:
    (request,) = requests_of(arguments(4, 3))
    with pytest.raises(ServerError, match=r"toy at here: output scores: expected float32 \[1, 4\], got .*build it"):
        arrays_from_answer("toy at here", SIGNATURE, request, {"scores": scores})
