"""Random inputs: within the spec, padded on one side, and the same user for every candidate."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cleave.builders import Tensor
from cleave.builders.names import PADDING_SIDES, RIGHT, PaddingSide
from cleave.builders.onnx_graph.random_inputs import (
    batch_and_sizes,
    draw_inputs,
    repeated_for_candidates,
    with_padding,
)
from tests.builders.graphs import HISTORY, NUM_IDS, ranker

SIZES = {"history": 7, "candidates": 5}


def test_shapes_types_and_ids() -> None:
    drawn = draw_inputs(ranker(), SIZES, 40, np.random.default_rng(0))
    assert {name: array.shape for name, array in drawn.items()} == {
        "ids": (40, 7),
        "events": (40, 7, 4),
        "profile": (40, 4),
        "hour": (40, 4),
        "items": (40, 5),
        "features": (40, 5, 4),
    }
    for tensor in ranker().inputs:
        assert drawn[tensor.name].dtype == tensor.numpy_dtype
    assert set(np.unique(drawn["ids"])) == set(range(NUM_IDS))
    assert batch_and_sizes(ranker(), drawn) == {"batch": 40, **SIZES}


def test_the_same_seed_draws_the_same() -> None:
    first, second = (draw_inputs(ranker(), SIZES, 3, np.random.default_rng(4), padded=True) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_padding_ends_every_users_rows_at_one_length_for_all_tensors_of_an_axis() -> None:
    drawn = draw_inputs(ranker(), SIZES, 200, np.random.default_rng(0), padded=True)
    padded = (drawn["events"] == 0).all(axis=2)
    lengths = 7 - padded.sum(axis=1)
    assert set(lengths) == set(range(8))
    for user, length in enumerate(lengths):
        assert not padded[user, :length].any()
        assert (drawn["ids"][user, length:] == 0).all()
    assert (drawn["profile"] != 0).all()


@pytest.mark.parametrize(("length", "expected"), [(0, [9, 9, 9]), (1, [1, 9, 9]), (3, [1, 1, 1])])
@pytest.mark.parametrize("side", PADDING_SIDES)
def test_padding_stands_on_its_side_of_the_real_rows(side: PaddingSide, length: int, expected: list[int]) -> None:
    ones = np.ones((1, 3, 2), np.int32)
    padded = with_padding(ones, 1, np.array([length]), 9, side)
    assert padded.dtype == np.int32
    assert padded[0, :, 0].tolist() == padded[0, :, 1].tolist() == (expected if side == RIGHT else expected[::-1])


def test_no_row_is_padding_where_an_axis_has_to_have_real_ones() -> None:
    history = dataclasses.replace(HISTORY, min_real=3, padding_side="left")
    ids = Tensor("ids", "int64", (history,), high=4)
    asked = dataclasses.replace(ranker(), user=(ids,))
    drawn = draw_inputs(asked, {"history": 12, "candidates": 2}, 200, np.random.default_rng(0), padded=True)["ids"]
    assert set((drawn != 0).sum(1)) == set(range(3, 13))
    assert (np.diff((drawn != 0).astype(int), axis=1) >= 0).all()
    assert set(np.unique(drawn)) == {0, 1, 2, 3}


def test_a_row_per_candidate_repeats_the_user_and_the_request() -> None:
    drawn = draw_inputs(ranker(), SIZES, 1, np.random.default_rng(0))
    repeated = repeated_for_candidates(ranker(), drawn)
    assert batch_and_sizes(ranker(), repeated) == {"batch": 5, "history": 7, "candidates": 1}
    for candidate in range(5):
        for name in ("ids", "events", "profile", "hour"):
            np.testing.assert_array_equal(repeated[name][candidate], drawn[name][0])
        for name in ("items", "features"):
            np.testing.assert_array_equal(repeated[name][candidate, 0], drawn[name][0, candidate])


def test_ids_flags_and_open_ids_are_within_the_spec() -> None:
    ids = draw_inputs(ranker(), {"history": 50, "candidates": 50}, 20, np.random.default_rng(0))["ids"]
    assert (ids.min(), ids.max()) == (0, 9)
    bool_ranker = dataclasses.replace(
        ranker(), request=(Tensor("flags", "bool", (3,)), Tensor("open_ids", "int32", ())), boundary=()
    )
    arrays = draw_inputs(bool_ranker, {"history": 2, "candidates": 2}, 50, np.random.default_rng(0))
    assert arrays["flags"].dtype == np.bool_
    assert arrays["open_ids"].dtype == np.int32
    assert arrays["open_ids"].shape == (50,)
    assert arrays["open_ids"].max() == 1
